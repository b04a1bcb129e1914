//! Tests of how columns meet inputs.

use super::*;
use crate::cli::draft::table;

fn input(name: &str, dtype: DType, dims: &[Option<usize>]) -> Input {
    Input { name: name.into(), dtype, dims: dims.to_vec() }
}

fn read(text: &str) -> Table {
    table::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_matrix_takes_columns_in_their_order_without_the_label() {
    let (inputs, table) = ([input("X", DType::F32, &[None, Some(2)])], read("a,y,b\n1,0,2.5\n,1,3\n"));
    let bound = bind(&inputs, &table, Some("y")).unwrap();
    let tensors = bound.tensors(2, |place, _| place).unwrap();
    let values = tensors[0].values::<f32>().unwrap();
    assert_eq!((tensors[0].shape(), &values[..2], values[3]), (&[2, 2][..], &[1.0, 2.5][..], 3.0));
    assert!(values[2].is_nan(), "a hole");
    assert_eq!((bound.label(1), bound.count()), (Some("1"), 2));
    let columns = &bound.learn()[0];
    assert_eq!((columns[0].name.as_str(), columns[0].range, columns[0].holes), ("a", Some((1.0, 1.0)), 1));
    assert_eq!((columns[1].range, columns[1].categories.len()), (Some((2.5, 3.0)), 0));
}

#[test]
fn single_inputs_take_columns_by_name_and_leave_others() {
    let inputs = [input("age", DType::I64, &[None, Some(1)]), input("home_town", DType::Bytes, &[None, Some(1)])];
    let rows: String =
        (0..10).map(|i| format!("{},x,{}.0\n", if i % 2 == 0 { "Ulm" } else { "Bonn" }, i % 2)).collect();
    let table = read(&format!("Home Town,note,age\n{rows}"));
    let bound = bind(&inputs, &table, None).unwrap();
    assert_eq!(bound.left, ["note"]);
    let tensors = bound.tensors(1, |_, _| 1).unwrap();
    assert_eq!((tensors[0].values::<i64>(), tensors[0].shape()), (Some(&[1i64][..]), &[1, 1][..]));
    assert_eq!(tensors[1].values::<Vec<u8>>(), Some(&[b"Bonn".to_vec()][..]));
    let learnt = bound.learn();
    assert_eq!(
        (learnt[0][0].categories.as_slice(), learnt[0][0].range),
        (&["0".to_owned(), "1".into()][..], Some((0.0, 1.0)))
    );
    assert_eq!(
        (learnt[1][0].categories.as_slice(), learnt[1][0].range),
        (&["Bonn".to_owned(), "Ulm".into()][..], None)
    );
}

#[test]
fn what_does_not_fit_is_said() {
    let matrix = [input("X", DType::F32, &[None, Some(2)])];
    let refusal = |inputs: &[Input], text: &str, label: Option<&str>| {
        let table = read(text);
        let refused = match bind(inputs, &table, label) {
            Ok(bound) => bound.tensors(1, |place, _| place).map(drop).unwrap_err(),
            Err(error) => error,
        };
        format!("{refused:#}")
    };
    assert!(refusal(&matrix, "a,b,c\n1,2,3\n", None).contains("takes 2 values a row, the reference has 3 columns"));
    assert!(refusal(&matrix, "a,b\n1,2\n", Some("y")).contains("no column \"y\""));
    assert!(refusal(&matrix, "a,a\n1,2\n", None).contains("two columns \"a\""));
    let named = ["temp", "pressure"].map(|name| input(name, DType::F32, &[None, Some(1)]));
    let other = refusal(&named, "pressure,temperature\n1,2\n", None);
    assert!(other.contains("by their names, and none for temp:"), "{other}");
    assert!(refusal(&matrix, "a,b\n1,x\n", None).contains("line 2: \"x\" is no FP32 for input X"));
    let bytes = [input("n", DType::U8, &[None, Some(1)])];
    for cell in ["256", "1.5", "-1", ""] {
        assert!(refusal(&bytes, &format!("n\n{cell}\n"), None).contains("is no UINT8"), "{cell}");
    }
    assert!(refusal(&[input("n", DType::Bool, &[None])], "n\n2\n", None).contains("is no BOOL"));
}

#[test]
fn values_differ_and_codes_are_many_only_where_they_are() {
    let inputs = [input("n", DType::I64, &[None, Some(1)])];
    let many: String = (0..100).map(|i| format!("{}\n", i % 13)).collect();
    let table = read(&format!("n\n{many}"));
    assert!(bind(&inputs, &table, None).unwrap().learn()[0][0].categories.is_empty(), "13 are too many");
    let table = read("n\n1\n2\n3\n4\n5\n6\n");
    assert!(bind(&inputs, &table, None).unwrap().learn()[0][0].categories.is_empty(), "each is seen once");
}

#[test]
fn made_up_inputs_are_the_same_each_time() {
    let inputs = [input("x", DType::F32, &[None, Some(3)]), input("n", DType::I32, &[Some(2)])];
    let made = |draws: &mut Draws| made_up(&inputs, draws).unwrap();
    let (mut one, mut other) = (Draws::new(), Draws::new());
    let first = made(&mut one);
    assert_eq!(first, made(&mut other));
    assert_ne!(first, made(&mut one), "and differ from each other");
    assert!(first[0].values::<f32>().unwrap().iter().all(|x| (0.0..1.0).contains(x)));
    assert!(made_up(&[input("t", DType::Bytes, &[None])], &mut one).is_err());
}
