//! Names and pages in addresses.

use std::{fmt::Display, str::FromStr};

use axum::{
    Json,
    extract::{Path, Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{ModelName, ModelVersion};

use super::problem::{Answer, Refusal, Refused};
use crate::{forms::Page, store::Paging};

/// Rows of a page where the caller does not say.
const DEFAULT_ROWS: usize = 100;
/// Most rows of a page.
const MAX_ROWS: usize = 1000;

/// `?limit=&cursor=&selector=&after=&state=`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    pub(super) selector: Option<String>,
    pub(super) after: Option<i64>,
    pub(super) state: Option<String>,
}

impl ListQuery {
    pub(super) fn of(query: Result<Query<Self>, QueryRejection>) -> Answer<Self> {
        query.map(|Query(query)| query).map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))
    }

    pub(super) fn limit(&self) -> Answer<usize> {
        match self.limit.unwrap_or(DEFAULT_ROWS) {
            limit @ 1..=MAX_ROWS => Ok(limit),
            _ => Err(Refused::new(Refusal::BadQuery, format!("limit must be 1 to {MAX_ROWS}"))),
        }
    }

    /// The page, of one row more than asked for: that one says whether the list goes on.
    pub(super) fn paging(&self) -> Answer<Paging> {
        Ok(Paging { after: self.cursor.clone().unwrap_or_default(), limit: self.limit()? + 1 })
    }
}

/// A page of at most `limit` of the rows, which are one more where the list goes on.
pub(super) fn page<T: Serialize>(rows: Vec<T>, limit: usize, name: impl Fn(&T) -> String) -> Response {
    page_of(rows, limit, name, |_| true)
}

/// A page of those rows that `keep` keeps; where the list goes on is told by all of them, so that a page may be short and
/// yet not the last.
pub(super) fn page_of<T: Serialize>(
    mut rows: Vec<T>,
    limit: usize,
    name: impl Fn(&T) -> String,
    keep: impl Fn(&T) -> bool,
) -> Response {
    let goes_on = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| goes_on).map(name);
    rows.retain(keep);
    Json(Page { items: rows, next }).into_response()
}

/// `?reason=`: why; kept with the record.
#[derive(Debug, Deserialize)]
pub(super) struct Why {
    pub(super) reason: String,
}

/// A name in the address.
pub(super) fn name<T: FromStr>(text: &str) -> Answer<T>
where
    T::Err: Display,
{
    text.parse().map_err(|e: T::Err| Refused::new(Refusal::BadName, e.to_string()))
}

/// `{team}/{model}/{version}` of the address.
pub(super) fn model_version(Path((team, model, version)): Path<(String, String, String)>) -> Answer<ModelVersion> {
    let model = ModelName { team: name(&team)?, model: name(&model)? };
    Ok(ModelVersion { name: model, version: name(&version)? })
}
