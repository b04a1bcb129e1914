//! Recorded rows: a CSV file becomes tensors that the contract admits, a row at a time, each refusal with its line.
//!
//! A device would reject, clamp or flag a value that breaks the contract; here it is the same, and a rejected one ends the
//! run: it would never have been counted.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use tern_engine::{Data, Tensor};
use tern_protocol::{
    contract::{Contract, DataType, Range, TensorContract, Violation},
    watch::Watch,
};

use crate::cli::decay::table::{Form, Table, is_missing};

/// Rows as large as those of pictures.
const WIDE: Form = Form { row: 8 << 20, columns: 4 << 20, is_any_mark: true };
/// Most columns that are named in a refusal.
const MAX_NAMED: usize = 20;
/// Most rows: what is kept of each stays in memory.
pub(super) const MAX_ROWS: usize = 1_000_000;

/// One recorded row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Its cells, which tell it from other rows.
    pub line: String,
    /// The model's input, of one row.
    pub input: Tensor,
    /// The right answer as written.
    pub label: Option<String>,
}

/// An open file of rows.
pub(super) struct Recorded<'c> {
    table: Table,
    input: &'c TensorContract,
    shape: Vec<usize>,
    label: Option<usize>,
    /// Whether the contract says what labels are held against.
    is_judged: bool,
}

impl<'c> Recorded<'c> {
    /// The rows in `file` for `contract`, whose answers stand in the column named `label`.
    pub(super) fn open(file: &Path, contract: &'c Contract, label: Option<&str>) -> anyhow::Result<Self> {
        let [input] = &contract.inputs[..] else {
            bail!(
                "`tern model profile` takes models with one input; this one has {}: {}",
                contract.inputs.len(),
                elsewhere(contract)
            );
        };
        ensure!(
            !matches!(input.datatype, DataType::Bool | DataType::Fp16 | DataType::Bytes),
            "inputs of {} cannot be read from a CSV file: {}",
            input.datatype.name(),
            elsewhere(contract)
        );
        let rest = match &input.shape[..] {
            [-1, rest @ ..] => rest,
            all => all,
        };
        let axes: Option<Vec<usize>> = rest.iter().map(|axis| usize::try_from(*axis).ok()).collect();
        let axes = axes.context("input with an axis that is not fixed")?;
        let width = axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(*axis)).context("input too large")?;
        let columns = width.checked_add(usize::from(label.is_some())).context("input too large")?;
        let shape = if rest.len() < input.shape.len() { [&[1], &axes[..]].concat() } else { axes };

        let table = Table::of(file, WIDE)?;
        let label = label.map(|label| table.column(label)).transpose()?;
        let names = table.names();
        ensure!(
            names.len() == columns,
            "{}: the header names {} columns; input {:?} of shape {:?} takes {width}{}",
            table.place(),
            names.len(),
            input.name,
            input.shape,
            if label.is_some() { ", and one is the label" } else { ": name the column of answers by --label, if any" }
        );
        let names: Vec<&str> =
            names.iter().enumerate().filter(|(at, _)| Some(*at) != label).map(|(_, name)| &**name).collect();
        let wanted: Vec<&str> = input.features.iter().map(|feature| &*feature.name).collect();
        let is_another_order = names != wanted && wanted.iter().all(|name| names.contains(name));
        ensure!(
            wanted.is_empty() || !is_another_order,
            "{}: the columns stand in another order than the contract's features: put them in the order {}",
            table.place(),
            wanted.join(",")
        );
        Ok(Self { table, input, shape, label, is_judged: contract.prediction.is_some() })
    }

    /// The next row; none at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Row>> {
        if !self.table.next()? {
            return Ok(None);
        }
        let row = self.row().with_context(|| format!("{}: line {}", self.table.place(), self.table.line()))?;
        Ok(Some(row))
    }

    fn row(&self) -> anyhow::Result<Row> {
        let cells = (0..self.table.names().len()).map(|at| self.table.cell(at)).collect::<anyhow::Result<Vec<_>>>()?;
        let label = self.label.filter(|_| self.is_judged).map(|at| cells[at].to_owned());
        ensure!(label.as_ref().is_none_or(|label| !label.is_empty()), "the label is empty");
        let values = cells.iter().enumerate().filter(|(at, _)| Some(*at) != self.label);
        let values: Vec<f64> =
            values.enumerate().map(|(at, (_, cell))| self.value(at, cell)).collect::<Result<_, _>>()?;
        let input = Tensor::new(self.shape.clone(), typed(self.input.datatype, &values)?)?;
        Ok(Row { line: cells.join("\u{1f}"), input, label })
    }

    /// The value of the `at`-th cell of the input, as the contract lets it pass.
    fn value(&self, at: usize, cell: &str) -> anyhow::Result<f64> {
        // A device gets what pandas writes as a blank cell as NaN.
        let value = if is_missing(cell) { Ok(f64::NAN) } else { cell.parse::<f64>() };
        let value = value.with_context(|| format!("{cell:?} is no number"))?;
        if value.is_nan() {
            ensure!(
                self.input.nan != Violation::Reject,
                "the contract rejects NaN, which a blank cell is: a device would refuse this row"
            );
            return Ok(value);
        }
        let feature = self.input.features.get(at % self.input.features.len().max(1));
        match feature.and_then(|feature| feature.range).or(self.input.range) {
            Some(Range { min, max, outside }) if !(min..=max).contains(&value) => match outside {
                Violation::Reject => bail!("{cell} is outside {min} to {max}: a device would refuse this row"),
                Violation::Clamp => Ok(value.clamp(min, max)),
                Violation::Flag => Ok(value),
            },
            _ => Ok(value),
        }
    }
}

/// Where models go that this command has no rows for.
fn elsewhere(contract: &Contract) -> String {
    let watch = Watch::new(contract);
    let names: Vec<&str> = watch.inputs().iter().map(|watched| watched.name.as_str()).collect();
    let more = if names.len() > MAX_NAMED { ", …" } else { "" };
    format!(
        "make its profile by `tern decay fit --reference ROWS.csv --out reference.json`, from columns named {}{more}, in this order",
        names[..names.len().min(MAX_NAMED)].join(", ")
    )
}

/// The values as the input's element type; a whole-number type takes whole numbers in its range only.
fn typed(datatype: DataType, values: &[f64]) -> anyhow::Result<Data> {
    macro_rules! whole {
        ($type:ty) => {
            values
                .iter()
                .map(|x| {
                    let whole = *x as $type;
                    ensure!(whole as f64 == *x, "{x} does not fit {}", datatype.name());
                    Ok(whole)
                })
                .collect::<anyhow::Result<Vec<$type>>>()?
                .into()
        };
    }
    Ok(match datatype {
        DataType::Fp32 => values.iter().map(|x| *x as f32).collect::<Vec<_>>().into(),
        DataType::Fp64 => values.to_vec().into(),
        DataType::Int8 => whole!(i8),
        DataType::Int16 => whole!(i16),
        DataType::Int32 => whole!(i32),
        DataType::Int64 => whole!(i64),
        DataType::Uint8 => whole!(u8),
        DataType::Uint16 => whole!(u16),
        DataType::Uint32 => whole!(u32),
        DataType::Uint64 => whole!(u64),
        DataType::Bool | DataType::Fp16 | DataType::Bytes => {
            bail!("inputs of {} cannot be read from a CSV file", datatype.name())
        }
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write scratch files")]
mod tests {
    use proptest::prelude::*;

    use tern_protocol::contract::{Feature, Prediction};

    use super::*;

    fn contract(nan: Violation, outside: Violation) -> Contract {
        let input = TensorContract {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![-1, 1, 2],
            range: Some(Range { min: 0.0, max: 9.0, outside }),
            nan,
            features: vec![],
            derive: vec![],
        };
        let prediction = Some(Prediction { label: "x".into(), confidence: None });
        Contract { inputs: vec![input.clone()], outputs: vec![input], prediction }
    }

    fn read(text: &str, contract: &Contract, label: Option<&str>) -> anyhow::Result<Vec<Row>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        std::fs::write(&file, text).unwrap();
        let mut recorded = Recorded::open(&file, contract, label)?;
        std::iter::from_fn(|| recorded.next().transpose()).collect()
    }

    fn refusal(text: &str, contract: &Contract, label: Option<&str>) -> String {
        format!("{:#}", read(text, contract, label).unwrap_err())
    }

    #[test]
    fn a_line_is_a_label_and_the_inputs_values_in_order() {
        let rows =
            read("a,label,b\n1, 7 ,2.5\r\n3,8,4", &contract(Violation::Reject, Violation::Reject), Some("label"));
        let rows = rows.unwrap();
        assert_eq!((rows.len(), rows[0].label.as_deref()), (2, Some("7")));
        assert_eq!((rows[0].input.shape(), rows[0].input.values::<f32>()), (&[1, 1, 2][..], Some(&[1.0, 2.5][..])));
    }

    #[test]
    fn columns_in_another_order_than_the_features_are_refused() {
        let mut named = contract(Violation::Reject, Violation::Reject);
        let feature = |name: &str| Feature { name: name.into(), range: None, categories: Vec::new() };
        named.inputs[0].features = ["a", "b"].map(feature).into();
        assert!(refusal("b,y,a\n1,2,3", &named, Some("y")).contains("put them in the order a,b"));
        assert!(read("a,b\n1,2", &named, None).is_ok() && read("other,names\n1,2", &named, None).is_ok());
    }

    #[test]
    fn the_contract_holds_as_on_a_device() {
        let strict = contract(Violation::Reject, Violation::Reject);
        assert!(refusal("a,b\n1,2\n1,10", &strict, None).contains("rows.csv: line 3: 10 is outside 0 to 9"));
        assert!(refusal("a,b\n1,NaN", &strict, None).contains("rejects NaN"));
        let lax = contract(Violation::Flag, Violation::Clamp);
        let rows = read("a,b\n-1,NaN", &lax, None).unwrap();
        let values = rows[0].input.values::<f32>().unwrap();
        assert!(values[0] == 0.0 && values[1].is_nan());
        let flagged = read("a,b\n-1,2", &contract(Violation::Flag, Violation::Flag), None).unwrap();
        assert_eq!(flagged[0].input.values::<f32>(), Some(&[-1.0, 2.0][..]));
    }

    #[test]
    fn what_is_not_such_a_file_is_refused_with_the_line() {
        let strict = contract(Violation::Reject, Violation::Reject);
        for (text, label, told) in [
            ("", None, "the file is empty"),
            ("a,b,c\n", None, "the header names 3 columns"),
            ("a,b\n", Some("label"), "names no column"),
            ("label,label,a\n", Some("label"), "twice"),
            ("a,b\n1\n", None, "rows.csv: line 2: 1 cell, but the header names 2"),
            ("a,b\n1,2\n\n3\n", None, "rows.csv: line 4: 1 cell"),
            ("PAR1\u{15}\u{4}", None, "rows.csv: a Parquet file: write its rows as CSV"),
            ("a,b\n1,\"2\n", None, "the file ends within quotes"),
            ("a,b\n1,x\n", None, "\"x\" is no number"),
            ("a,b,label\n1,2,\n", Some("label"), "the label is empty"),
        ] {
            let told_instead = refusal(text, &strict, label);
            assert!(told_instead.contains(told), "{text:?}: {told_instead}");
        }
        assert!(typed(DataType::Uint8, &[256.0]).is_err() && typed(DataType::Int8, &[0.5]).is_err());
        assert!(typed(DataType::Fp16, &[1.0]).is_err());
    }

    #[test]
    fn an_input_of_as_many_values_as_can_be_counted_has_no_room_for_a_label() {
        let mut huge = contract(Violation::Reject, Violation::Reject);
        // Together 2^64 - 1.
        huge.inputs[0].shape = vec![-1, 3, 6_148_914_691_236_517_205];
        assert_eq!(refusal("a,label\n", &huge, Some("label")), "input too large");
    }

    #[test]
    fn files_are_read_as_pandas_and_spreadsheets_write_them() {
        let lax = contract(Violation::Flag, Violation::Flag);
        for text in [
            "a,\"y\",b\n1,7,\n",
            "a;y;b\n1;7;\n",
            "\u{feff}a\ty\tb\r\n1\t7\tnan\r\n\r\n",
            "\"a\";\"y\";b\n1;\"7\";\"\"",
        ] {
            let rows = read(text, &lax, Some("y")).unwrap();
            let values = rows[0].input.values::<f32>().unwrap();
            assert!(rows.len() == 1 && values[0] == 1.0 && values[1].is_nan(), "{text:?}: {rows:?}");
            assert_eq!(rows[0].label.as_deref(), Some("7"), "{text:?}");
        }
        assert!(refusal("a,b\n1,\n", &contract(Violation::Reject, Violation::Flag), None).contains("a blank cell is"));
    }

    #[test]
    fn models_that_predict_no_class_leave_the_label_out() {
        let regressor = Contract { prediction: None, ..contract(Violation::Reject, Violation::Reject) };
        let rows = read("a,b,y\n1,2,\n3,4,0.5\n", &regressor, Some("y")).unwrap();
        assert!(rows.len() == 2 && rows.iter().all(|row| row.label.is_none()), "{rows:?}");
    }

    #[test]
    fn models_of_other_inputs_are_shown_the_way() {
        let mut several = contract(Violation::Reject, Violation::Reject);
        let feature = |name: &str| Feature { name: name.into(), range: None, categories: Vec::new() };
        several.inputs[0].features = ["a", "b"].map(feature).into();
        several.inputs.push(TensorContract { name: "z".into(), ..several.inputs[0].clone() });
        let told = refusal("a,b\n", &several, None);
        assert!(
            told.contains("tern decay fit --reference") && told.contains("columns named x.a, x.b, z.a, z.b"),
            "{told}"
        );
        several.inputs.truncate(1);
        several.inputs[0].datatype = DataType::Bytes;
        assert!(refusal("a,b\n", &several, None).contains("tern decay fit"));
    }

    proptest! {
        #[test]
        fn arbitrary_rows_are_taken_whole_or_refused(
            rows in "[-0-9.,eE+naif\"\n\r\u{0}é ]{0,80}", label in any::<bool>(), is_strict in any::<bool>(),
        ) {
            let policy = if is_strict { Violation::Reject } else { Violation::Clamp };
            let (contract, header) = (contract(policy, policy), if label { "a,label,b" } else { "a,b" });
            if let Ok(read) = read(&format!("{header}\n{rows}"), &contract, label.then_some("label")) {
                for row in read {
                    let values = row.input.values::<f32>().unwrap();
                    prop_assert_eq!(values.len(), 2);
                    prop_assert!(values.iter().all(|x| (0.0..=9.0).contains(x) || (x.is_nan() && !is_strict)));
                    prop_assert_eq!(row.label.is_some(), label);
                }
            }
        }
    }
}
