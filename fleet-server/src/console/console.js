// Swaps what changed in <main> when the server says that something did. The page is whole without this file.
'use strict';
(() => {
  const byId = id => document.getElementById(id);
  const [state, button, news] = ['live-state', 'live-pause', 'news'].map(byId);
  const AGE = 30000; // "12 s ago" must not grow stale on a quiet page
  let source = null, paused = false, busy = false, again = false;

  const keyOf = node => node.nodeType === 1 ? node.dataset.key || node.id : '';
  const alike = (old, fresh) =>
    old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);

  // Makes `old` look like `fresh` and keeps the nodes that are the same thing, so focus, scroll and open parts stay.
  function morph(old, fresh) {
    if (old.nodeType !== 1) { if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue; return; }
    for (const { name } of [...old.attributes])
      if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const keys = new Set([...fresh.childNodes].map(keyOf));
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      while (at && keyOf(at) && !keys.has(keyOf(at))) { const gone = at; at = at.nextSibling; gone.remove(); }
      const key = keyOf(next);
      const kept = key ? [...old.childNodes].find(child => alike(child, next)) : at && alike(at, next) ? at : null;
      if (!kept) old.insertBefore(next, at);
      else if (kept === at) { at = at.nextSibling; morph(kept, next); }
      else { old.insertBefore(kept, at); morph(kept, next); }
    }
    while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: 'no-store' });
      if (answer.ok && !paused) {
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
        for (const selector of ['main', 'nav', '#as-of']) {
          const [old, next] = [document, fresh].map(page => page.querySelector(selector));
          if (old && next) morph(old, next);
        }
        const said = byId('main').dataset.news;
        if (news.textContent !== said) news.textContent = said; // read out politely, and only if it differs
      }
    } catch { /* the stream's own end says that the server is away */ }
    busy = false;
    if (again) { again = false; refresh(); }
  }

  function close() { if (source) source.close(); source = null; }

  function open() {
    if (source || paused || document.hidden) return; // a hidden page holds none of the server's places
    source = new EventSource('/live?page=' + encodeURIComponent(location.pathname + location.search));
    source.addEventListener('open', () => { state.textContent = 'Live'; refresh(); });
    source.addEventListener('changed', refresh);
    source.addEventListener('error', () => {
      const ended = source && source.readyState === EventSource.CLOSED;
      state.textContent = ended ? 'No live updates: too many viewers, or no server' : 'Connection lost, trying again';
      if (ended) { close(); setTimeout(open, AGE); }
    });
  }

  button.addEventListener('click', () => {
    paused = !paused;
    button.setAttribute('aria-pressed', String(paused));
    state.textContent = paused ? 'Paused' : 'Connecting';
    if (paused) close(); else open();
  });
  document.addEventListener('visibilitychange', () => document.hidden ? close() : open());
  setInterval(() => { if (source && !document.hidden) refresh(); }, AGE);
  state.textContent = 'Connecting';
  state.hidden = button.hidden = false;
  news.textContent = byId('main').dataset.news;
  open();
})();
