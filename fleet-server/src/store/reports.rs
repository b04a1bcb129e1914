//! Rows of reports as they came, each once: (device, stream, sequence) names a row for ever.

use jiff::Timestamp;
use rusqlite::params;
use tern_protocol::{ids::DeviceId, report::v1::Stream};

use super::{Store, StoreError, integer, millis};

impl Store {
    /// Keeps rows as (sequence, bytes); returns how many were new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_rows(
        &self,
        device: DeviceId,
        stream: Stream,
        rows: Vec<(u64, Vec<u8>)>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| {
            let sql = "INSERT INTO reports (device, stream, sequence, received, payload) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT DO NOTHING";
            let mut statement = connection.prepare_cached(sql)?;
            let mut new = 0;
            for (sequence, payload) in &rows {
                new +=
                    statement.execute(params![device.as_str(), stream.0, integer(*sequence), millis(now), payload])?;
            }
            Ok(new)
        })
        .await
    }
}
