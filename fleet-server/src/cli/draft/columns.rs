//! Which columns of a table fill which input of a model, and what they are like: ranges, categories, holes.
//!
//! Pure: tables and declared inputs in, tensors and a contract's terms out.

use anyhow::{Context, bail, ensure};
use tern_engine::{DType, Data, Tensor};

use super::table::Table;

/// An input as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub name: String,
    pub dtype: DType,
    /// None is the batch, on the first axis only.
    pub dims: Vec<Option<usize>>,
}

impl Input {
    /// The shape of `rows` rows.
    pub(super) fn shape(&self, rows: usize) -> Vec<usize> {
        self.dims.iter().map(|dim| dim.unwrap_or(rows)).collect()
    }

    /// Values of one row.
    pub(super) fn width(&self) -> anyhow::Result<usize> {
        let width = self.shape(1).iter().try_fold(1, |all: usize, dim| all.checked_mul(*dim));
        width.with_context(|| format!("input {} is too large", self.name))
    }

    pub(super) fn is_batched(&self) -> bool {
        self.dims.first() == Some(&None)
    }

    /// Whether its last axis holds one value of each column.
    pub(super) fn is_table(&self) -> bool {
        matches!(&self.dims[..], [None | Some(1), Some(_)])
    }
}

/// Columns of a table, bound to inputs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound<'t> {
    inputs: &'t [Input],
    table: &'t Table,
    /// For each input its columns, in the order of its values.
    columns: Vec<Vec<usize>>,
    /// The column of right answers.
    label: Option<usize>,
    /// Columns that fill nothing.
    pub left: Vec<String>,
}

/// A column of an input as the rows show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub name: String,
    /// Smallest and largest number; none of texts and where there is no number.
    pub range: Option<(f64, f64)>,
    /// What occurs, where that is few.
    pub categories: Vec<String>,
    /// Rows without a value.
    pub holes: usize,
}

/// Most different values of what is called a category.
const MAX_CATEGORIES: usize = 50;
/// Most different whole numbers of what is called a category.
const MAX_CODES: usize = 12;
/// Fewest rows for each different value, on average.
const ROWS_A_CATEGORY: usize = 5;

/// Binds columns to inputs: by name where each input takes one value, else in their order.
///
/// # Errors
/// Where they do not fit; the message says what there is and what is wanted.
pub(super) fn bind<'t>(inputs: &'t [Input], table: &'t Table, label: Option<&str>) -> anyhow::Result<Bound<'t>> {
    let label = label.map(|label| position(&table.names, label)).transpose()?;
    let twice = table.names.iter().enumerate().find(|(at, name)| table.names[..*at].contains(name));
    ensure!(twice.is_none(), "the reference has two columns {:?}: rename one", twice.map_or("", |(_, name)| name));
    let free: Vec<usize> = (0..table.names.len()).filter(|at| Some(*at) != label).collect();
    let widths = inputs.iter().map(Input::width).collect::<anyhow::Result<Vec<_>>>()?;
    let wanted = widths.iter().try_fold(0, |all: usize, width| all.checked_add(*width)).context("inputs too large")?;
    if let Some(columns) = by_name(inputs, &widths, table, &free)? {
        let left = free.iter().filter(|at| !columns.iter().any(|one| one.contains(at)));
        let left = left.map(|at| table.names[*at].clone()).collect();
        return Ok(Bound { inputs, table, columns, label, left });
    }
    if free.len() != wanted {
        let names: Vec<_> = table.names.iter().take(20).map(String::as_str).collect();
        let label = if label.is_none() { " (name the column of right answers with --label)" } else { "" };
        bail!(
            "the model takes {wanted} values a row, the reference has {} columns for them: {}{label}",
            free.len(),
            names.join(", ")
        );
    }
    let mut free = free.into_iter();
    let columns = widths.iter().map(|width| free.by_ref().take(*width).collect()).collect();
    Ok(Bound { inputs, table, columns, label, left: Vec::new() })
}

fn position(names: &[String], label: &str) -> anyhow::Result<usize> {
    let at = names.iter().position(|name| name == label);
    at.with_context(|| format!("the reference has no column {label:?}; its columns are {}", names.join(", ")))
}

/// A column of its own name for every input; a model that takes one matrix has no such columns.
///
/// # Errors
/// Where some inputs have one and others have none: in the order of the file the former would be given the wrong one.
fn by_name(
    inputs: &[Input],
    widths: &[usize],
    table: &Table,
    free: &[usize],
) -> anyhow::Result<Option<Vec<Vec<usize>>>> {
    if widths.iter().any(|width| *width != 1) {
        return Ok(None);
    }
    let plain = |name: &str| name.to_lowercase().replace([' ', '-', '.'], "_");
    let column = |input: &Input| free.iter().find(|at| plain(&table.names[**at]) == plain(&input.name)).copied();
    let found: Vec<Option<usize>> = inputs.iter().map(column).collect();
    let without = inputs.iter().zip(&found).filter(|(_, column)| column.is_none());
    let without: Vec<&str> = without.map(|(input, _)| &*input.name).take(20).collect();
    ensure!(
        without.is_empty() || found.iter().all(Option::is_none),
        "the reference has columns for some inputs by their names, and none for {}: rename its columns to the inputs' names",
        without.join(", ")
    );
    Ok(found.into_iter().map(|column| Some(vec![column?])).collect())
}

impl Bound<'_> {
    pub(super) fn count(&self) -> usize {
        self.table.rows.len()
    }

    /// Columns of the table.
    pub(super) fn width(&self) -> usize {
        self.table.names.len()
    }

    /// The right answer of a row.
    pub(super) fn label(&self, row: usize) -> Option<&str> {
        Some(self.table.rows.get(row)?.get(self.label?)?.trim())
    }

    /// The inputs of some rows, in one call; `pick` says which row's cell stands in a place and a column.
    ///
    /// # Errors
    /// With the line of a cell that is no value of its input's type.
    pub(super) fn tensors(&self, rows: usize, pick: impl Fn(usize, usize) -> usize) -> anyhow::Result<Vec<Tensor>> {
        let tensor = |(input, columns): (&Input, &Vec<usize>)| {
            let places = (0..rows).flat_map(|place| columns.iter().map(move |column| (place, *column)));
            let cells = places.map(|(place, column)| {
                let row = pick(place, column);
                (self.table.rows[row][column].trim(), row)
            });
            let data = typed(input, cells)?;
            Ok(Tensor::new(input.shape(rows), data)?)
        };
        self.inputs.iter().zip(&self.columns).map(tensor).collect()
    }

    /// What each input's columns are like.
    pub(super) fn learn(&self) -> Vec<Vec<Column>> {
        let column = |input: &Input, at: usize| learn(input, &self.table.names[at], self.table, at);
        let side = self.inputs.iter().zip(&self.columns);
        side.map(|(input, columns)| columns.iter().map(|at| column(input, *at)).collect()).collect()
    }
}

fn learn(input: &Input, name: &str, table: &Table, at: usize) -> Column {
    let cells = || table.rows.iter().map(|row| row[at].trim());
    let mut column = Column { name: name.to_owned(), range: None, categories: Vec::new(), holes: 0 };
    column.holes = cells().filter(|cell| is_hole(cell)).count();
    let numbers: Vec<f64> = cells().filter_map(|cell| cell.parse().ok()).filter(|x: &f64| x.is_finite()).collect();
    let most = match input.dtype {
        DType::Bytes => MAX_CATEGORIES,
        DType::F32 | DType::F64 | DType::Bool => 0,
        _ => MAX_CODES,
    };
    if input.dtype != DType::Bytes && !numbers.is_empty() {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        column.range = Some(numbers.iter().fold(ends, |(low, high), x| (low.min(*x), high.max(*x))));
    }
    let mut seen = std::collections::BTreeSet::new();
    for cell in cells().filter(|cell| !is_hole(cell)) {
        seen.insert(whole(cell).map_or_else(|| cell.to_owned(), |number| number.to_string()));
        if seen.len() > most {
            return column;
        }
    }
    if seen.len() * ROWS_A_CATEGORY <= table.rows.len() {
        column.categories = seen.into_iter().collect();
    }
    column
}

/// Whether a cell says that there is nothing in it.
pub(super) fn is_hole(cell: &str) -> bool {
    matches!(cell.to_ascii_lowercase().as_str(), "" | "nan" | "na" | "n/a" | "null" | "none")
}

/// A whole number, also where it is written as `3.0`.
fn whole(cell: &str) -> Option<i64> {
    cell.parse().ok().or_else(|| {
        let number: f64 = cell.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

fn typed<'c>(input: &Input, cells: impl Iterator<Item = (&'c str, usize)>) -> anyhow::Result<Data> {
    // Lines are counted from 1, and the first one is the header.
    let refused =
        |cell: &str, row: usize| format!("line {}: {cell:?} is no {} for input {}", row + 2, input.dtype, input.name);
    macro_rules! wholes {
        ($type:ty) => {
            cells
                .map(|(cell, row)| {
                    let number = whole(cell).and_then(|number| <$type>::try_from(number).ok());
                    number.with_context(|| refused(cell, row))
                })
                .collect::<anyhow::Result<Vec<$type>>>()?
                .into()
        };
    }
    let float = |(cell, row): (&str, usize)| match is_hole(cell) {
        true => Ok(f64::NAN),
        false => cell.parse::<f64>().with_context(|| refused(cell, row)),
    };
    Ok(match input.dtype {
        DType::F32 => cells.map(|cell| float(cell).map(|x| x as f32)).collect::<anyhow::Result<Vec<_>>>()?.into(),
        DType::F64 => cells.map(float).collect::<anyhow::Result<Vec<_>>>()?.into(),
        DType::Bytes => cells.map(|(cell, _)| cell.as_bytes().to_vec()).collect::<Vec<_>>().into(),
        DType::Bool => {
            let truth = |(cell, row): (&str, usize)| match cell.to_ascii_lowercase().as_str() {
                "true" | "1" | "1.0" => Ok(true),
                "false" | "0" | "0.0" => Ok(false),
                _ => bail!(refused(cell, row)),
            };
            cells.map(truth).collect::<anyhow::Result<Vec<_>>>()?.into()
        }
        DType::U8 => wholes!(u8),
        DType::U16 => wholes!(u16),
        DType::U32 => wholes!(u32),
        DType::U64 => wholes!(u64),
        DType::I8 => wholes!(i8),
        DType::I16 => wholes!(i16),
        DType::I32 => wholes!(i32),
        DType::I64 => wholes!(i64),
    })
}

/// Made-up inputs of one row where nobody gave any: the same numbers every time, none of them from the world.
///
/// # Errors
/// Where an input is text, which cannot be made up.
pub(super) fn made_up(inputs: &[Input], draws: &mut Draws) -> anyhow::Result<Vec<Tensor>> {
    let tensor = |input: &Input| {
        let width = input.width()?;
        ensure!(width <= 16 << 20, "input {} is too large to be made up: give rows with --reference", input.name);
        let mut below = |most: u64| draws.below(most);
        macro_rules! small {
            ($type:ty) => {
                (0..width).map(|_| below(4) as $type).collect::<Vec<_>>().into()
            };
        }
        let data: Data = match input.dtype {
            DType::F32 => (0..width).map(|_| below(1 << 20) as f32 / (1 << 20) as f32).collect::<Vec<_>>().into(),
            DType::F64 => (0..width).map(|_| below(1 << 20) as f64 / f64::from(1 << 20)).collect::<Vec<_>>().into(),
            DType::Bool => (0..width).map(|_| below(2) == 1).collect::<Vec<_>>().into(),
            DType::Bytes => bail!("input {} is text, which cannot be made up: give rows with --reference", input.name),
            DType::U8 => small!(u8),
            DType::U16 => small!(u16),
            DType::U32 => small!(u32),
            DType::U64 => small!(u64),
            DType::I8 => small!(i8),
            DType::I16 => small!(i16),
            DType::I32 => small!(i32),
            DType::I64 => small!(i64),
        };
        Ok(Tensor::new(input.shape(1), data)?)
    };
    inputs.iter().map(tensor).collect()
}

/// Numbers by seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new() -> Self {
        Self(0x7e57_7e57)
    }

    /// A number below `most`.
    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }
}

#[cfg(test)]
mod tests;
