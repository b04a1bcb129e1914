//! The schema and how it grows: expand first, contract a release later, so that the previous server still reads.
//!
//! Steps are never changed once released. `user_version` counts the steps that were applied; each is one transaction.

use rusqlite::Connection;

use super::StoreError;

/// Each step takes the schema from its index to the next.
const STEPS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
    include_str!("migrations/0011.sql"),
];

/// Brings the schema up to date.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (index, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_applies_once_and_a_newer_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        apply(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(apply(&mut connection), Err(StoreError::Newer { found: 99, .. })));
    }

    #[test]
    fn a_database_of_the_server_before_keeps_what_it_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        for (index, step) in STEPS[..2].iter().enumerate() {
            connection.execute_batch(step).unwrap();
            connection.pragma_update(None, "user_version", index as i64 + 1).unwrap();
        }
        let rows = "INSERT INTO devices (device, enrolled, device_class, own_labels, operator_labels, agent_version,
                        key_sha256, certificate_expires, generation) VALUES ('cam-1', 1, 'c', '{}', '{}', '0', 'k', 9, 4);
                    INSERT INTO reports VALUES ('cam-1', x'01', 1, 1, x'00');
                    INSERT INTO retained (topic, payload) VALUES ('t', x'00');
                    INSERT INTO events (at, kind, actor, code, message) VALUES (1, 'k', 'a', '', '');";
        connection.execute_batch(rows).unwrap();
        apply(&mut connection).unwrap();
        let count = "SELECT (SELECT generation FROM devices) + (SELECT count(*) FROM reports)
                         + (SELECT count(*) FROM retained) + (SELECT count(*) FROM events)";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 7);
        let (cursor, check): (i64, String) = (
            connection.query_row("SELECT cursor FROM detector", [], |row| row.get(0)).unwrap(),
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap(),
        );
        assert_eq!((cursor, check.as_str()), (0, "ok"));
        // The server before still writes: it knows the older columns only.
        connection.execute("INSERT INTO reports VALUES ('cam-1', x'01', 2, 1, x'00')", []).unwrap();
    }

    #[test]
    fn what_was_ever_demanded_is_known_from_before_and_from_now_on() {
        let mut connection = Connection::open_in_memory().unwrap();
        for (index, step) in STEPS[..6].iter().enumerate() {
            connection.execute_batch(step).unwrap();
            connection.pragma_update(None, "user_version", index as i64 + 1).unwrap();
        }
        let rows = r#"INSERT INTO devices (device, enrolled, device_class, own_labels, operator_labels, agent_version,
                key_sha256, certificate_expires) VALUES ('cam-1', 1, 'c', '{}', '{}', '0', 'k', 9);
            INSERT INTO desired_models VALUES ('cam-1', 'm', 'demo', '1.3.0', '{}');
            INSERT INTO assignments (at, actor, model, selector, reason, devices)
                VALUES (1, 'a', 'demo/m@1.0.0-rc.1', '*', 'r', '{"cam-1":4,"cam-2":5}');
            INSERT INTO rollouts (id, team, model_id, version, selector, policy, state, phase, revision, created,
                created_by, reason) VALUES ('r1', 'demo', 'm', '1.2.0', '*', '', '', '', 1, 1, 'a', 'r');
            INSERT INTO rollout_devices (rollout, device, stage, round, at, generation, previous)
                VALUES ('r1', 'cam-1', 0, 0, 1, 1, '{"model":"demo/m","version":"1.1.0"}'),
                    ('r1', 'cam-3', 0, 0, 1, 1, NULL);"#;
        connection.execute_batch(rows).unwrap();
        apply(&mut connection).unwrap();
        let known = |connection: &Connection| {
            let sql = "SELECT device || ' ' || team || '/' || model_id || '@' || version FROM demanded ORDER BY 1";
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let mut expected = vec![
            "cam-1 demo/m@1.0.0-rc.1",
            "cam-1 demo/m@1.1.0",
            "cam-1 demo/m@1.2.0",
            "cam-1 demo/m@1.3.0",
            "cam-2 demo/m@1.0.0-rc.1",
            "cam-3 demo/m@1.2.0",
        ];
        assert_eq!(known(&connection), expected);
        for version in ["1.2.0", "1.4.0", "1.4.0"] {
            connection.execute("DELETE FROM desired_models", []).unwrap();
            let insert = "INSERT INTO desired_models VALUES ('cam-1', 'm', 'demo', ?1, '{}')";
            connection.execute(insert, [version]).unwrap();
        }
        expected.insert(4, "cam-1 demo/m@1.4.0");
        assert_eq!(known(&connection), expected);
    }

    #[test]
    fn accesses_and_tokens_are_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        let rows = "INSERT INTO accesses (at, kind, actor, address, action, resource, reason, outcome, code, times)
                        VALUES (1, 'operator', 'ann', '', 'read-blob', 'd', 'r', 'granted', '', 1);
                    INSERT INTO tokens (hash, name, role, created) VALUES ('h', 'ann', 'viewer', 1);";
        connection.execute_batch(rows).unwrap();
        for change in ["UPDATE accesses SET actor = 'x'", "DELETE FROM accesses", "DELETE FROM tokens"] {
            assert!(connection.execute(change, []).is_err(), "{change}");
        }
    }

    #[test]
    fn events_cannot_be_changed_or_removed() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        let insert = "INSERT INTO events (at, kind, actor, code, message) VALUES (1, 'k', 'a', '', '')";
        connection.execute(insert, []).unwrap();
        assert!(connection.execute("UPDATE events SET kind = 'x'", []).is_err());
        assert!(connection.execute("DELETE FROM events", []).is_err());
    }
}
