//! Whatever happens in whatever order, every row counts once.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Open(u64),
    Close(u64),
    Offer,
    Cover(u64),
    Squeeze,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..50u64).prop_map(Step::Open),
        3 => (0..50u64).prop_map(Step::Close),
        2 => Just(Step::Offer),
        2 => (0..9u64).prop_map(Step::Cover),
        1 => Just(Step::Squeeze),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A server that takes every row once counts every row once, in whatever order things happen.
    #[test]
    fn rows_in_are_rows_out(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut database = first(folder.path());
        let (mut number, mut held, mut came, mut boots) = (1, 0, 0, Boots { started: 1, opened: 1 });
        let mut server = std::collections::BTreeMap::new();
        for step in steps.into_iter().chain([Step::Close(1), Step::Offer]) {
            match step {
                Step::Open(rows) => {
                    (held, came) = (held + rows, came + rows);
                    database.record(&still_open(number, held, rows), None).unwrap();
                }
                Step::Close(rows) => {
                    (held, came) = (held + rows, came + rows);
                    database.record(&Batch { counts: counted(rows), ..closed(number, held) }, None).unwrap();
                    (number, held) = (number + 1, 0);
                }
                Step::Offer => {
                    database.offer().unwrap();
                    for row in database.published(database.meta.watermark, STAMP).unwrap() {
                        if let Some(before) = server.insert(row.sequence, row.clone()) {
                            prop_assert_eq!(before, row, "immutable");
                        }
                    }
                }
                Step::Cover(back) => {
                    let newest = server.len() as u64;
                    database.watermark(database.meta.stream, newest.saturating_sub(back), STAMP).unwrap();
                }
                Step::Squeeze => {
                    // Whatever can be merged is; covered rows may still be asked for here.
                    let covered = database.meta.watermark;
                    if covered == 0 {
                        drop(database.keep_within(1));
                    }
                }
                Step::Restart => {
                    drop(database);
                    database = open(folder.path(), boots);
                    boots = Boots { started: database.meta.boot, opened: database.meta.boot };
                    if held > 0 { (number, held) = (number + 1, 0) }
                }
            }
        }
        while database.offer().unwrap() > 0 {}
        let mut cursor = 0;
        loop {
            let report = database.published(cursor, STAMP).unwrap();
            let Some(last) = report.last() else { break };
            cursor = last.sequence;
            for row in report { server.insert(row.sequence, row); }
        }
        let rows = server.values().map(|row| match &row.item { Item::Window(w) => w.rows, _ => 0 }).sum::<u64>();
        prop_assert_eq!(rows, came);
        prop_assert_eq!(database.totals().unwrap()[&version()].rows, came);
        prop_assert_eq!(server.len() as u64, database.meta.sequence, "no hole");
    }
}
