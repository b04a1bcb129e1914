//! `tern model check`: a model's first five minutes. No server, no keys: what the file is, whether the engine runs it and
//! with whose answers, what it costs; and a bundle around it, drafted for people to edit.
//!
//! The model runs in a process of its own, see [`confined`](super::confined). Expected answers are onnxruntime's where
//! Python has it, else the engine's own, and said to be. Nothing that is there is written over unasked, and nothing at all is
//! written for a model that the engine does not run as onnxruntime does.

mod advice;
mod columns;
mod description;
mod oracle;
mod quality;
pub(super) mod table;
mod tell;
mod trial;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use tern_engine::{
    Declared, Dim, Inspection, Limits, Tensor,
    golden::{self, Case, Tolerance},
};
use tern_protocol::{
    digest::Digest,
    ids::ModelName,
    manifest::{MAX_FILES, is_plain_path},
};

pub(super) use trial::{Header, carry_out};

use super::{args, confined::Itself, inspect, output::Printer};
use crate::{
    bundle::{DESCRIPTION, MIN_GOLDEN_SETS},
    disk::{self, Access},
};
use columns::{Bound, Draws, Input};
use description::{Draft, Reference};
use oracle::Oracle;
use table::Table;
use tell::Checked;

/// Floats agree by default if |got - want| <= absolute + relative * |want|.
const ABSOLUTE: f64 = 1e-4;
/// See [`ABSOLUTE`].
const RELATIVE: f64 = 1e-3;
/// Longest reference, in bytes.
const MAX_REFERENCE: u64 = 512 << 20;
/// Most rows whose answers are held against the right ones.
const MAX_JUDGED: usize = 10_000;
/// Most characters of onnxruntime's error in a `tern.toml`.
const MAX_QUOTED: usize = 60;
/// Rows of a call while judging.
const BATCH: usize = 100;
/// Folders of golden vectors begin with this.
const SET: &str = "test_data_set_";

pub(super) async fn run(order: &args::Check, itself: Option<&Itself>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let place = Place::of(order)?;
    let bytes =
        disk::read(&order.model, Limits::default().file_bytes).with_context(|| format!("reading {}", place.shown()))?;
    let bytes = bytes.with_context(|| format!("there is no file {}", place.shown()))?;
    let (facts, bytes) = inspect::facts(bytes, itself).await.with_context(|| place.shown())?;
    runnable(&facts, printer)?;
    packable(&facts)?;
    let inputs = inputs(&facts.inputs, &order.dimensions)?;
    let reference = read_reference(order).await?;
    let table = reference.as_ref().map(|(table, _)| table);
    let bound = table.map(|table| columns::bind(&inputs, table, order.label.as_deref())).transpose()?;
    let asked = Asked::choose(&inputs, bound.as_ref())?;
    printer.progress("running the model");
    let tried = trial::run(bytes, &asked.all(), asked.golden.len(), itself).await;
    let tried = tried.context("the engine does not run the model")?;
    let (ours, judged) = tried.answers.split_at(asked.golden.len());
    printer.progress("asking onnxruntime");
    let oracle = match order.no_onnxruntime {
        true => Oracle::Unasked,
        false => oracle::ask(&order.python, &place.model, &asked.golden).await?,
    };
    printer.progress("");
    let tolerance = (order.atol.unwrap_or(ABSOLUTE), order.rtol.unwrap_or(RELATIVE));
    let answers = Answers::of(oracle, ours, tolerance)?;
    let one_row = ours.first().context("no case was run")?;
    let roles = quality::roles(one_row);
    let quality = quality::judge(judged, roles, asked.answered(judged.len()));
    let draft = Draft {
        name: order.name.as_ref().map_or_else(|| place.name(), ToString::to_string),
        file: place.file.clone(),
        outputs: facts.outputs.iter().map(|output| output.name.clone()).collect(),
        one_row,
        is_batched: inputs.iter().any(Input::is_batched),
        roles,
        columns: bound.as_ref().map(Bound::learn).unwrap_or_default(),
        reference: reference.as_ref().map(|(table, digest)| Reference {
            name: shown_name(order.reference.as_deref()),
            rows: table.rows.len(),
            sha256: digest.to_string(),
            label: order.label.clone(),
            quality: quality.clone(),
        }),
        inputs: &inputs,
        sets: asked.golden.len(),
        golden_by: answers.by.clone(),
        absolute: tolerance.0,
        relative: tolerance.1,
        figures: tried.figures,
    };
    let text = description::write(&draft);
    place.write(&text, &asked.golden, &answers.outputs, &draft, order.force)?;
    let checked = Checked::new(&place, &facts, &draft, &answers, &tried, quality, bound.as_ref(), table);
    checked.tell(printer)
}

/// Where the model is, and where its bundle will be.
pub(super) struct Place {
    model: PathBuf,
    pub folder: PathBuf,
    pub file: String,
}

impl Place {
    fn of(order: &args::Check) -> anyhow::Result<Self> {
        let model =
            fs::canonicalize(&order.model).with_context(|| format!("there is no file {}", order.model.display()))?;
        ensure!(!model.is_dir(), "{} is a folder: name the .onnx file in it", order.model.display());
        let file = order.model.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        ensure!(
            is_plain_path(&file),
            "rename the file: {file:?} has more than letters, digits, '.', '_' and '-' in its name"
        );
        let folder = match order.model.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let place = Self { model, folder, file };
        let there = place.there()?;
        if let (Some(first), false) = (there.first(), order.force) {
            bail!(
                "{} is there already: nothing was checked or written; --force writes {DESCRIPTION} anew and replaces all \
                 {SET}<n>",
                first.display()
            );
        }
        Ok(place)
    }

    /// What a draft would write over.
    fn there(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut there = Vec::new();
        let description = self.folder.join(DESCRIPTION);
        if fs::symlink_metadata(&description).is_ok() {
            there.push(description);
        }
        for entry in fs::read_dir(&self.folder).with_context(|| format!("reading {}", self.folder.display()))? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(SET) {
                there.push(self.folder.join(name));
            }
        }
        Ok(there)
    }

    pub(super) fn shown(&self) -> String {
        self.folder.join(&self.file).display().to_string()
    }

    /// A name to begin with: of the file, or of its folder where the file is only called a model.
    fn name(&self) -> String {
        let stem = self.file.rsplit_once('.').map_or(self.file.as_str(), |(stem, _)| stem);
        let folder = self.model.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let name = if stem == "model" { folder.unwrap_or(stem) } else { stem };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = name.chars().map(plain).take(60).collect();
        let name = format!("my-team/{}", name.trim_matches('-'));
        if name.parse::<ModelName>().is_ok() { name } else { "my-team/model".into() }
    }

    fn write(
        &self,
        description: &str,
        asked: &[Vec<Tensor>],
        answers: &[Vec<Tensor>],
        draft: &Draft<'_>,
        force: bool,
    ) -> anyhow::Result<()> {
        for old in self.there()?.iter().filter(|path| force && path.is_dir()) {
            disk::remove_tree(old).with_context(|| format!("removing {}", old.display()))?;
        }
        let inputs: Vec<_> = draft.inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<_> = draft.outputs.iter().map(String::as_str).collect();
        for (at, (given, expected)) in asked.iter().zip(answers).enumerate() {
            let case = Case { name: format!("{SET}{at}"), inputs: given.clone(), outputs: expected.clone() };
            let folder = self.folder.join(&case.name);
            fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
            for (name, bytes) in case.to_pairs(&inputs, &outputs) {
                let path = self.folder.join(name);
                disk::write(&path, &bytes, Access::Public).with_context(|| format!("writing {}", path.display()))?;
            }
        }
        let path = self.folder.join(DESCRIPTION);
        disk::write(&path, description.as_bytes(), Access::Public)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Ends where the engine lacks something, with what to do about each.
fn runnable(facts: &Inspection, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut lacks: Vec<(String, &str)> =
        facts.unsupported.iter().map(|operator| (operator.clone(), advice::on(operator))).collect();
    // What comes out is judged by what the engine makes of it: it may give a table where the file says a sequence.
    for tensor in facts.inputs.iter().filter(|tensor| tensor.dtype.parse::<tern_engine::DType>().is_err()) {
        lacks.push((format!("input {} of type {}", tensor.name, tensor.dtype), advice::on_type(&tensor.dtype)));
    }
    if !lacks.is_empty() {
        for (what, how) in &lacks {
            printer.note(&format!("{what}: {how}"))?;
        }
        let what: Vec<_> = lacks.into_iter().map(|(what, _)| what).collect();
        bail!("the engine lacks {}", what.join(", "));
    }
    facts.refusal.as_ref().map_or(Ok(()), |why| bail!("the engine refuses the model: {why}"))
}

/// Ends where the golden vectors would be more files than a bundle has.
fn packable(facts: &Inspection) -> anyhow::Result<()> {
    let (inputs, outputs) = (facts.inputs.len(), facts.outputs.len());
    // Beside them there is the model, and may be a card and a reference profile.
    let files = (inputs + outputs).saturating_mul(MIN_GOLDEN_SETS).saturating_add(3);
    ensure!(
        files <= MAX_FILES,
        "the model has {inputs} inputs and {outputs} outputs, and {MIN_GOLDEN_SETS} golden vectors of them are more than the \
         {MAX_FILES} files of a bundle: have it take and give fewer tensors"
    );
    Ok(())
}

/// The inputs as they will be served: only rows stay open. `sizes` are those of other dimensions that the file leaves open.
fn inputs(declared: &[Declared], sizes: &[(String, usize)]) -> anyhow::Result<Vec<Input>> {
    let mut used = BTreeSet::new();
    let mut made = Vec::new();
    for Declared { name, dtype, dims } in declared {
        let dims = dims.as_ref().with_context(|| format!("input {name} declares no shape: export it with one"))?;
        let (mut sized, mut unsized_dims) = (Vec::new(), Vec::new());
        for (axis, dim) in dims.iter().enumerate() {
            let place = format!("{name}[{axis}]");
            let title = if let Dim::Named(title) = dim { title } else { &place };
            let given = sizes.iter().find(|(of, _)| of == title || *of == place);
            used.extend(given.map(|(of, _)| of));
            match (dim, given) {
                (Dim::Fixed(dim), None) if *dim > 0 => sized.push(Some(usize::try_from(*dim)?)),
                (Dim::Fixed(dim), Some(_)) if *dim > 0 => bail!("{place} is {dim} in the file: it has no other size"),
                (_, Some((_, size))) => sized.push(Some(*size)),
                _ if axis == 0 => sized.push(None),
                _ => unsized_dims.push(format!("--dim {title}=SIZE")),
            }
        }
        if !unsized_dims.is_empty() {
            let shape = Declared { name: name.clone(), dtype: dtype.clone(), dims: Some(dims.clone()) }.shape_text();
            bail!("input {name} is {shape}: say what it will be on devices: {}", unsized_dims.join(" "));
        }
        made.push(Input { name: name.clone(), dtype: dtype.parse()?, dims: sized });
    }
    match sizes.iter().find(|(of, _)| !used.contains(of)) {
        None => Ok(made),
        Some((of, _)) => bail!("no input leaves a dimension {of:?} open"),
    }
}

async fn read_reference(order: &args::Check) -> anyhow::Result<Option<(Table, Digest)>> {
    let Some(path) = &order.reference else { return Ok(None) };
    let shown = || format!("the reference {}", path.display());
    let bytes = disk::read(path, MAX_REFERENCE).with_context(shown)?;
    let bytes = bytes.with_context(|| format!("{} is not there", shown()))?;
    let digest = Digest::of(&bytes);
    let is_parquet = bytes.starts_with(b"PAR1");
    let text = if is_parquet { oracle::parquet(&order.python, path, table::MAX_ROWS).await? } else { bytes };
    Ok(Some((table::parse(&text).with_context(shown)?, digest)))
}

fn shown_name(path: Option<&Path>) -> String {
    path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the model is asked.
struct Asked<'t> {
    /// One row each: golden vectors.
    golden: Vec<Vec<Tensor>>,
    /// Rows with right answers, several in a call where the model takes so many.
    judged: Vec<Vec<Tensor>>,
    /// The right answers of those.
    labels: Vec<&'t str>,
    is_batched: bool,
}

impl<'t> Asked<'t> {
    fn choose(inputs: &[Input], bound: Option<&'t Bound<'_>>) -> anyhow::Result<Self> {
        let mut draws = Draws::new();
        let Some(bound) = bound else {
            let golden =
                (0..MIN_GOLDEN_SETS).map(|_| columns::made_up(inputs, &mut draws)).collect::<Result<_, _>>()?;
            return Ok(Self { golden, judged: Vec::new(), labels: Vec::new(), is_batched: false });
        };
        let rows = bound.count();
        let mut golden = Vec::new();
        for at in 0..MIN_GOLDEN_SETS {
            // Spread over the file; where it has fewer rows, cells of different rows make more.
            golden.push(if at < rows {
                let row = if rows <= MIN_GOLDEN_SETS { at } else { at * (rows - 1) / (MIN_GOLDEN_SETS - 1) };
                bound.tensors(1, |_, _| row)?
            } else {
                let mix: Vec<usize> = (0..bound.width()).map(|_| draws.below(rows as u64) as usize).collect();
                bound.tensors(1, |_, column| mix[column])?
            });
        }
        let labels: Vec<&str> = (0..rows.min(MAX_JUDGED)).map_while(|row| bound.label(row)).collect();
        let is_batched = inputs.iter().all(Input::is_batched);
        let mut judged = Vec::new();
        for first in (0..labels.len()).step_by(if is_batched { BATCH } else { 1 }) {
            let count = if is_batched { BATCH.min(labels.len() - first) } else { 1 };
            judged.push(bound.tensors(count, |place, _| first + place)?);
        }
        Ok(Self { golden, judged, labels, is_batched })
    }

    /// The right answers to the first calls.
    fn answered(&self, calls: usize) -> &[&'t str] {
        let rows = self.judged.iter().take(calls).filter_map(|inputs| inputs.first()?.shape().first());
        let rows = if self.is_batched { rows.sum() } else { calls };
        self.labels.get(..rows).unwrap_or(&self.labels)
    }

    fn all(&self) -> Vec<Vec<Tensor>> {
        self.golden.iter().chain(&self.judged).cloned().collect()
    }
}

/// The answers that golden vectors expect.
pub(super) struct Answers {
    pub outputs: Vec<Vec<Tensor>>,
    /// Who gave them.
    pub by: String,
    pub is_independent: bool,
    /// Why nobody else did, and what to do about it.
    pub why: Option<String>,
    /// How far the engine's lie off.
    pub agreement: golden::Agreement,
}

impl Answers {
    fn of(oracle: Oracle, ours: &[Vec<Tensor>], tolerance: (f64, f64)) -> anyhow::Result<Self> {
        let tolerance = Tolerance::new(tolerance.0, tolerance.1);
        let tolerance = tolerance.context("a tolerance is a finite number that is not negative")?;
        let own = |why: String, how: &str| Self {
            outputs: ours.to_vec(),
            by: format!("the engine itself, unchecked ({})", why.chars().take(MAX_QUOTED).collect::<String>()),
            is_independent: false,
            why: Some(format!("({why}){how}")),
            agreement: golden::Agreement::default(),
        };
        let (theirs, version) = match oracle {
            Oracle::Unasked => return Ok(own("onnxruntime was not asked".into(), "")),
            Oracle::Absent(why) => return Ok(own(why, advice::WITHOUT_ONNXRUNTIME)),
            Oracle::Failed(why) => {
                let how = advice::on_failure(&why);
                return Ok(own(format!("onnxruntime fails: {why}"), how));
            }
            Oracle::Answers(theirs, version) => (theirs, version),
        };
        let mut agreement = golden::Agreement::default();
        for (at, (expected, got)) in theirs.iter().zip(ours).enumerate() {
            let survey = golden::survey(expected, got, tolerance);
            agreement = agreement.with(survey.agreement);
            if let Some(first) = survey.first {
                bail!(
                    "the engine disagrees with onnxruntime {version} on row {at}: {first} (max abs {:.1e}, max rel {:.1e}; \
                     --atol and --rtol say what is near enough). Nothing was written",
                    survey.agreement.absolute,
                    survey.agreement.relative
                );
            }
        }
        let by = format!("onnxruntime {version}");
        Ok(Self { outputs: theirs, by, is_independent: true, why: None, agreement })
    }
}
