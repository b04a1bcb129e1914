//! Golden vectors as files: from names and bytes, or from a folder. Bounded in number and size.

use super::GoldenError;
use crate::{
    error::brief,
    golden::maps,
    tensor::Tensor,
    tensor_proto::{TensorFileError, tensor_from_pb, tensor_to_pb},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

const FILES: usize = 16_384;
const BYTES: u64 = 256 << 20;

/// Inputs and the outputs that they must give, both in the model's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `test_data_set_<n>`.
    pub name: String,
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// The outputs expected.
    pub outputs: Vec<Tensor>,
}

impl Case {
    /// The case as files of ONNX's layout: names and bytes. `names` are the model's input and output names, which are
    /// written into the files; where there are too few, the file's own name stands in.
    pub fn to_pairs(&self, input_names: &[&str], output_names: &[&str]) -> Vec<(String, Vec<u8>)> {
        let files = |side: Side, tensors: &[Tensor], names: &[&str]| -> Vec<(String, Vec<u8>)> {
            let file = |(index, tensor): (usize, &Tensor)| {
                let fallback = format!("{}_{index}", side.word());
                let bytes = tensor_to_pb(tensor, names.get(index).copied().unwrap_or(&fallback));
                (format!("{}/{fallback}.pb", self.name), bytes)
            };
            tensors.iter().enumerate().map(file).collect()
        };
        let mut pairs = files(Side::Input, &self.inputs, input_names);
        pairs.extend(files(Side::Output, &self.outputs, output_names));
        pairs
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Where a file belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    case: u32,
    side: Side,
    index: u32,
}

impl Place {
    /// From the last two parts of a name; folders before them do not matter.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.rsplit('/');
        let (file, folder) = (parts.next()?, parts.next()?);
        let case = number(folder.strip_prefix("test_data_set_")?)?;
        let stem = file.strip_suffix(".pb")?;
        let (side, index) = match stem.strip_prefix("input_") {
            Some(index) => (Side::Input, index),
            None => (Side::Output, stem.strip_prefix("output_")?),
        };
        Some(Self { case, side, index: number(index)? })
    }

    fn name(self) -> String {
        format!("{}/{}_{}.pb", case_name(self.case), self.side.word(), self.index)
    }
}

fn case_name(case: u32) -> String {
    format!("test_data_set_{case}")
}

// Digits only, so that each number has one spelling.
fn number(text: &str) -> Option<u32> {
    let number = text.parse().ok()?;
    (format!("{number}") == text).then_some(number)
}

/// Cases from names like `test_data_set_0/input_0.pb` and the bytes of each file, ordered by number. Folders before
/// those two parts do not matter; every name must fit the layout.
///
/// # Errors
/// [`GoldenError`]: a name that does not fit, a gap, a duplicate, a file that is no tensor, too much, or nothing at all.
pub fn from_pairs<N: AsRef<str>, B: AsRef<[u8]>>(
    pairs: impl IntoIterator<Item = (N, B)>,
) -> Result<Vec<Case>, GoldenError> {
    collect(pairs, |_, content| tensor_from_pb(content))
}

/// The same from files that others wrote: an output may be a sequence of maps, as ONNX's ZipMap gives them, and is read as
/// the plain `[rows, classes]` tensor that such a model gives here. No bundle may hold one.
///
/// # Errors
/// As [`from_pairs`].
pub fn from_foreign_pairs<N: AsRef<str>, B: AsRef<[u8]>>(
    pairs: impl IntoIterator<Item = (N, B)>,
) -> Result<Vec<Case>, GoldenError> {
    collect(pairs, |side, content| match (side, tensor_from_pb(content)) {
        (Side::Output, Err(error)) => maps::table_from_pb(content).unwrap_or(Err(error)),
        (_, read) => read,
    })
}

fn collect<N: AsRef<str>, B: AsRef<[u8]>>(
    pairs: impl IntoIterator<Item = (N, B)>,
    read: impl Fn(Side, &[u8]) -> Result<Tensor, TensorFileError>,
) -> Result<Vec<Case>, GoldenError> {
    let mut tensors = BTreeMap::new();
    let mut bytes = 0u64;
    for (name, content) in pairs {
        let (name, content) = (name.as_ref(), content.as_ref());
        let place = Place::parse(name).ok_or_else(|| GoldenError::UnexpectedFile { file: brief(name) })?;
        bytes = bytes.saturating_add(content.len() as u64);
        if bytes > BYTES {
            return Err(GoldenError::TooLarge { what: "bytes", limit: BYTES });
        }
        if tensors.len() == FILES {
            return Err(GoldenError::TooLarge { what: "files", limit: FILES as u64 });
        }
        let tensor = read(place.side, content);
        let tensor = tensor.map_err(|cause| GoldenError::BadTensor { file: place.name(), cause })?;
        if tensors.insert(place, tensor).is_some() {
            return Err(GoldenError::Duplicate { file: place.name() });
        }
    }
    assemble(tensors)
}

fn assemble(tensors: BTreeMap<Place, Tensor>) -> Result<Vec<Case>, GoldenError> {
    let mut cases: BTreeMap<u32, Case> = BTreeMap::new();
    for (place, tensor) in tensors {
        let case = cases.entry(place.case).or_insert_with(|| Case {
            name: case_name(place.case),
            inputs: Vec::new(),
            outputs: Vec::new(),
        });
        let side = match place.side {
            Side::Input => &mut case.inputs,
            Side::Output => &mut case.outputs,
        };
        if side.len() as u64 != u64::from(place.index) {
            let index = u32::try_from(side.len()).unwrap_or(u32::MAX);
            return Err(GoldenError::Missing { file: Place { index, ..place }.name() });
        }
        side.push(tensor);
    }
    if let Some((number, _)) = cases.iter().find(|(_, case)| case.outputs.is_empty()) {
        let place = Place { case: *number, side: Side::Output, index: 0 };
        return Err(GoldenError::Missing { file: place.name() });
    }
    if cases.is_empty() {
        return Err(GoldenError::Empty);
    }
    Ok(cases.into_values().collect())
}

/// Cases from the folders `test_data_set_<n>` in `folder`; what else lies there is passed over, but in those folders
/// every `.pb` file must fit the layout.
///
/// # Errors
/// As [`from_pairs`], or [`GoldenError::Io`] with the path that could not be read.
pub fn load_dir(folder: &Path) -> Result<Vec<Case>, GoldenError> {
    let mut pairs = Vec::new();
    let mut left = BYTES;
    for set in names(folder)?.into_iter().filter(|name| name.starts_with("test_data_set_")) {
        let inside = folder.join(&set);
        for file in names(&inside)?.into_iter().filter(|name| name.ends_with(".pb")) {
            if pairs.len() == FILES {
                return Err(GoldenError::TooLarge { what: "files", limit: FILES as u64 });
            }
            let bytes = read(&inside.join(&file), left)?;
            left -= bytes.len() as u64;
            pairs.push((format!("{set}/{file}"), bytes));
        }
    }
    from_pairs(pairs)
}

fn names(folder: &Path) -> Result<Vec<String>, GoldenError> {
    let failed = |cause: io::Error| GoldenError::Io { path: folder.to_owned(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if names.len() == FILES {
            return Err(GoldenError::TooLarge { what: "files", limit: FILES as u64 });
        }
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn read(path: &Path, left: u64) -> Result<Vec<u8>, GoldenError> {
    let failed = |cause: io::Error| GoldenError::Io { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(left.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > left {
        return Err(GoldenError::TooLarge { what: "bytes", limit: BYTES });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::any_tensor, tensor_proto::TensorFileError};
    use proptest::prelude::*;

    fn scalar(value: f32) -> Vec<u8> {
        tensor_to_pb(&Tensor::new([], vec![value]).unwrap(), "t")
    }

    fn read_back(names: &[&str]) -> Result<Vec<Case>, GoldenError> {
        from_pairs(names.iter().map(|name| (*name, scalar(1.0))))
    }

    #[test]
    fn cases_come_in_numerical_order() {
        let names = [10, 9].map(|n| format!("golden/test_data_set_{n}/output_0.pb"));
        let cases = read_back(&names.each_ref().map(String::as_str)).unwrap();
        assert_eq!(
            cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(),
            ["test_data_set_9", "test_data_set_10"]
        );
    }

    #[test]
    fn each_fault_of_the_layout_has_its_variant() {
        let none: [&str; 0] = [];
        assert!(matches!(read_back(&none), Err(GoldenError::Empty)));
        for name in ["input_0.pb", "test_data_set_/input_0.pb", "test_data_set_0/input_00.pb", "test_data_set_0/x_0.pb"]
        {
            assert!(matches!(read_back(&[name]), Err(GoldenError::UnexpectedFile { file }) if file == name));
        }
        let twice = ["a/test_data_set_0/output_0.pb", "b/test_data_set_0/output_0.pb"];
        assert!(matches!(read_back(&twice), Err(GoldenError::Duplicate { .. })));
        let gap = ["test_data_set_0/input_1.pb", "test_data_set_0/output_0.pb"];
        assert!(matches!(read_back(&gap), Err(GoldenError::Missing { file }) if file == "test_data_set_0/input_0.pb"));
        let no_output = ["test_data_set_3/input_0.pb"];
        let missing = "test_data_set_3/output_0.pb";
        assert!(matches!(read_back(&no_output), Err(GoldenError::Missing { file }) if file == missing));
        let bad = from_pairs([("test_data_set_0/input_0.pb", [0xff])]);
        assert!(matches!(bad, Err(GoldenError::BadTensor { cause: TensorFileError::Malformed(_), .. })));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out the folder that it reads")]
    fn a_folder_reads_like_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("test_data_set_0");
        fs::create_dir(&set).unwrap();
        fs::write(folder.path().join("model.onnx"), b"beside").unwrap();
        fs::write(set.join("notes.txt"), b"beside").unwrap();
        fs::write(set.join("input_0.pb"), scalar(1.0)).unwrap();
        assert!(matches!(load_dir(folder.path()), Err(GoldenError::Missing { .. })));
        fs::write(set.join("output_0.pb"), scalar(2.0)).unwrap();
        let cases = load_dir(folder.path()).unwrap();
        assert_eq!(cases[0].outputs[0].values::<f32>(), Some(&[2.0f32][..]));
        assert!(matches!(load_dir(&set.join("gone")), Err(GoldenError::Io { .. })));
    }

    #[test]
    fn only_foreign_outputs_may_be_sequences_of_maps() {
        // One map of 7 to 0.5, as numpy_helper.from_list writes it: the tensor is of type FP32, with its value raw.
        let tensor = [0x10, 0x01, 0x4a, 0x04, 0, 0, 0, 0x3f];
        let values = [&[0x10, 0x01, 0x1a, tensor.len() as u8][..], &tensor].concat();
        let map = [&[0x10, 0x07, 0x1a, 0x01, 0x07, 0x2a, values.len() as u8][..], &values].concat();
        let sequence = [&[0x10, 0x04, 0x32, map.len() as u8][..], &map].concat();
        let output = [("test_data_set_0/output_0.pb", sequence.clone())];
        assert!(matches!(from_pairs(output.clone()), Err(GoldenError::BadTensor { .. })));
        let cases = from_foreign_pairs(output).unwrap();
        assert_eq!(cases[0].outputs, [Tensor::new([1, 1], vec![0.5f32]).unwrap()]);
        let input = [("test_data_set_0/input_0.pb", sequence)];
        assert!(matches!(from_foreign_pairs(input), Err(GoldenError::BadTensor { .. })));
    }

    proptest! {
        #[test]
        fn cases_survive_their_files(inputs in prop::collection::vec(any_tensor(), 0..3),
                                     outputs in prop::collection::vec(any_tensor(), 1..3)) {
            let case = Case { name: "test_data_set_7".into(), inputs, outputs };
            let back = from_pairs(case.to_pairs(&["x"], &[])).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{:?}", [case]));
        }
    }
}
