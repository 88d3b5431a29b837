//! Which labs of a list a client wants: the query of `GET /labs`.

use jiff::Timestamp;
use utoipa::IntoParams;

use super::error::ApiError;
use super::openapi;
use crate::labs::model::{InstanceState, LabSnapshot, LabState};

/// What the query says.
#[derive(Debug, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LabFilter {
    /// At most so many labs; missing or 0: all.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4294967295_u32, required = false)]
    limit: Option<u32>,
    /// Passes over so many of the labs that match.
    #[param(value_type = i64, minimum = 0, maximum = 4294967295_u32, required = false)]
    offset: u32,
    /// A part of the name of the lab, its topology or its collection, in upper or lower case.
    #[param(rename = "searchQuery", required = false)]
    search: String,
    /// Labs that start then or later.
    #[param(rename = "startDate", value_type = Option<String>, format = DateTime, required = false)]
    starts_from: Option<Timestamp>,
    /// Labs that end then or before.
    #[param(rename = "endDate", value_type = Option<String>, format = DateTime, required = false)]
    ends_by: Option<Timestamp>,
    /// States of labs: -2 scheduled, -1 inactive, 0 deploying, 1 running, 2 stopping, 3 failed. `stateFilter`, with
    /// commas between the numbers, does the same.
    #[param(rename = "stateFilter[]", schema_with = openapi::states, required = false)]
    states: Vec<i32>,
    /// Ids of collections. `collectionFilter`, with commas between the ids, does the same.
    #[param(rename = "collectionFilter[]", required = false)]
    collections: Vec<String>,
}

impl LabFilter {
    /// Reads the pairs of a query. Keys that mean nothing are passed over, and so are empty values.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] naming the key.
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        for (key, value) in pairs {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match key.as_str() {
                // Clients that want all say so with 0 as well.
                "limit" => filter.limit = Some(count(key, value)?).filter(|&limit| limit > 0),
                "offset" => filter.offset = count(key, value)?,
                "searchQuery" => filter.search = value.to_lowercase(),
                "startDate" => filter.starts_from = Some(time(key, value)?),
                "endDate" => filter.ends_by = Some(time(key, value)?),
                "stateFilter" | "stateFilter[]" => {
                    for state in value.split(',') {
                        filter.states.push(self::state(key, state.trim())?);
                    }
                }
                "collectionFilter" | "collectionFilter[]" => {
                    filter.collections.extend(value.split(',').map(|id| id.trim().to_owned()));
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Whether a lab is one of those. `topology` is the name of its topology.
    pub(super) fn matches(&self, snapshot: &LabSnapshot) -> bool {
        let lab = &snapshot.lab;
        let found = |text: &str| text.to_lowercase().contains(&self.search);
        (self.search.is_empty()
            || found(&lab.name)
            || found(&snapshot.topology.name)
            || found(&snapshot.collection.name))
            && self.starts_from.is_none_or(|from| lab.start_time >= from)
            // A lab without an end doesn't end by then.
            && self.ends_by.is_none_or(|by| lab.end_time.is_some_and(|end| end <= by))
            && (self.states.is_empty() || self.states.contains(&snapshot.state.code()))
            && (self.collections.is_empty() || self.collections.iter().any(|id| id == lab.collection_id.as_str()))
    }

    /// The page of all labs that match.
    pub(super) fn page<T>(&self, matching: Vec<T>) -> Vec<T> {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        matching.into_iter().skip(self.offset as usize).take(limit).collect()
    }
}

/// How many labs.
fn count(key: &str, value: &str) -> Result<u32, ApiError> {
    let problem = || ApiError::Invalid(format!("{key}: {value:?} is no whole number from 0 to {}", u32::MAX));
    value.parse().map_err(|_| problem())
}

/// The number of a state of labs.
fn state(key: &str, value: &str) -> Result<i32, ApiError> {
    let possible = LabState::Scheduled.code()..=InstanceState::Failed as i32;
    value.parse().ok().filter(|state| possible.contains(state)).ok_or_else(|| {
        ApiError::Invalid(format!(
            "{key}: {value:?} is no state of labs; there are -2 (scheduled), -1 (inactive), 0 (deploying), 1 (running), \
             2 (stopping) and 3 (failed), with commas between them"
        ))
    })
}

/// A time of RFC 3339. Clients that don't encode the plus of an offset have sent a space.
pub(super) fn time(key: &str, value: &str) -> Result<Timestamp, ApiError> {
    let read = value.parse().or_else(|_| value.replace(' ', "+").parse());
    read.map_err(|_| ApiError::Invalid(format!("{key}: {value:?} is not a time such as 2030-01-31T08:00:00Z")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lab_json::tests::snapshot;
    use super::*;

    fn filter(query: &[(&str, &str)]) -> LabFilter {
        let pairs: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        LabFilter::read(&pairs).expect("valid")
    }

    fn matches(query: &[(&str, &str)]) -> bool {
        filter(query).matches(&snapshot())
    }

    #[test]
    fn without_a_query_every_lab_matches() {
        assert!(matches(&[]));
        assert!(matches(&[("searchQuery", ""), ("startDate", ""), ("stateFilter[]", ""), ("unknown", "x")]));
    }

    #[test]
    fn a_search_looks_at_the_names_of_lab_topology_and_collection() {
        for found in ["mond", "MONDAY", "ring", "cour"] {
            assert!(matches(&[("searchQuery", found)]), "{found}");
        }
        assert!(!matches(&[("searchQuery", "tuesday")]));
    }

    #[test]
    fn dates_bound_start_and_end() {
        assert!(matches(&[("startDate", "2030-01-31T08:00:00Z")]));
        assert!(!matches(&[("startDate", "2030-01-31T08:00:01Z")]));
        assert!(matches(&[("endDate", "2030-01-31T10:00:00Z")]));
        assert!(!matches(&[("endDate", "2030-01-31T09:59:59.999Z")]));
        assert!(matches(&[("startDate", "2030-01-31T09:00:00+01:00")]), "with an offset");
        assert!(matches(&[("startDate", "2030-01-31T09:00:00 01:00")]), "with an offset that was not encoded");
        let mut endless = snapshot();
        endless.lab.end_time = None;
        assert!(!filter(&[("endDate", "2040-01-01T00:00:00Z")]).matches(&endless));
    }

    #[test]
    fn states_are_named_by_number_with_and_without_brackets() {
        assert!(matches(&[("stateFilter[]", "1"), ("stateFilter[]", "-2")]));
        assert!(matches(&[("stateFilter", "-2,3")]));
        assert!(!matches(&[("stateFilter[]", "-1")]));
        let mut running = snapshot();
        running.state = LabState::Instance(InstanceState::Running);
        assert!(filter(&[("stateFilter[]", "1")]).matches(&running));
        assert!(!filter(&[("stateFilter[]", "-2")]).matches(&running));
    }

    #[test]
    fn collections_are_named_by_id() {
        assert!(matches(&[("collectionFilter[]", "other"), ("collectionFilter[]", "collection-1")]));
        assert!(!matches(&[("collectionFilter", "course")]));
    }

    #[test]
    fn all_conditions_have_to_hold() {
        assert!(matches(&[("searchQuery", "ring"), ("stateFilter", "-2"), ("collectionFilter", "collection-1")]));
        assert!(!matches(&[("searchQuery", "ring"), ("stateFilter", "1")]));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key() {
        for (key, value) in [
            ("limit", "many"),
            ("limit", "-1"),
            ("offset", "1.5"),
            ("startDate", "tomorrow"),
            ("endDate", "2030"),
            ("stateFilter[]", "running"),
            ("stateFilter", "4"),
            ("stateFilter", "-3"),
        ] {
            let refused = LabFilter::read(&[(key.to_owned(), value.to_owned())]).expect_err("refused").to_string();
            assert!(refused.starts_with(key) && refused.contains(value), "{refused}");
            let possible = if key.starts_with("state") { "1 (running)" } else { "such as 2030" };
            let possible = if matches!(key, "limit" | "offset") { "from 0 to 4294967295" } else { possible };
            assert!(refused.contains(possible), "{refused}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(filter(&[("limit", "0")]).page(vec![1, 2, 3]), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn pages_put_together_are_the_whole(all in proptest::collection::vec(0..9, 0..40), limit in 1_usize..10) {
            let mut gathered = Vec::new();
            for offset in (0..all.len()).step_by(limit) {
                let query = [("limit", limit.to_string()), ("offset", offset.to_string())];
                let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
                let page = filter(&query).page(all.clone());
                prop_assert!(page.len() <= limit);
                gathered.extend(page);
            }
            prop_assert_eq!(gathered, all);
        }
    }
}
