// What is wrong with the page that is shown, as a list of sentences. Evaluated by the system test, not part of the console.
(() => {
  const wrong = [];
  const all = selector => [...document.querySelectorAll(selector)];
  const levels = all('h1, h2, h3, h4').map(heading => Number(heading.tagName[1]));
  if (levels.filter(level => level === 1).length !== 1) wrong.push('not one heading of the first level');
  levels.forEach((level, n) => { if (n > 0 && level > levels[n - 1] + 1) wrong.push('a heading level is left out'); });
  for (const landmark of ['header', 'nav', 'main', 'footer'])
    if (all(landmark).length !== 1) wrong.push(`not one ${landmark}`);
  if (!document.documentElement.lang) wrong.push('no language');
  for (const table of all('table')) {
    if (!table.caption || !table.caption.textContent.trim()) wrong.push('a table without a caption');
    if ([...table.querySelectorAll('th')].some(head => !head.scope)) wrong.push('a heading without a scope');
    if (![...table.querySelectorAll('tbody tr')].every(row => row.querySelector('th'))) wrong.push('a row without a heading');
  }
  for (const picture of all('svg[role=img]'))
    if (!picture.querySelector('title').textContent || !picture.querySelector('desc').textContent) wrong.push('a mute picture');
  if (all('[id]').length !== new Set(all('[id]').map(node => node.id)).size) wrong.push('an id that is used twice');
  if (all('[aria-live], [role=status]').length !== 1) wrong.push('not one live region');

  const channel = value => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = colour => colour.match(/[\d.]+/g).map(Number);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  for (const node of all('body *')) {
    const text = [...node.childNodes].some(child => child.nodeType === 3 && child.nodeValue.trim());
    if (!text || !node.checkVisibility() || ['TITLE', 'DESC', 'SCRIPT', 'NOSCRIPT'].includes(node.tagName.toUpperCase())) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(numbers(node instanceof SVGElement ? style.fill : style.color)), light(ground(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${node.outerHTML.slice(0, 120)}`);
    if (style.transitionDuration.split(',').some(time => parseFloat(time) > 0)) wrong.push('motion where none is wanted');
  }
  return [...new Set(wrong)];
})()
