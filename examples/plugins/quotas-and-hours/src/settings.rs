//! What an operator can set, and how a mistake in it is reported.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hours::{Offset, Window};

/// The settings of this plugin. Unknown keys are errors, since most of them are misspelt known ones.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// How far the clock on the wall is ahead of UTC, such as `+01:00`. It knows no summer time.
    pub(crate) utc_offset: Offset,
    /// Whether administrators may do everything.
    pub(crate) admins_exempt: bool,
    /// Ids of others who may.
    pub(crate) exempt: Vec<String>,
    /// Whether somebody with a quota may have labs started by the schedule, which counts nothing.
    pub(crate) allow_scheduling: bool,
    /// What holds wherever a collection has nothing of its own.
    pub(crate) everywhere: Limits,
    /// What holds in the collections of these names; of what is left out there, the above.
    pub(crate) collections: BTreeMap<String, Limits>,
}

/// Limits of a collection. What is left out is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Limits {
    /// How many labs a person may run at once, counted over all collections.
    pub(crate) max_running: Option<u32>,
    /// How many hours a lab may last, from its start time to its end time.
    pub(crate) max_hours: Option<u32>,
    /// When labs may be deployed. An empty list: never.
    pub(crate) hours: Option<Vec<Window>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            utc_offset: Offset::default(),
            admins_exempt: true,
            exempt: vec![],
            allow_scheduling: false,
            everywhere: Limits::default(),
            collections: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads the settings; the error names key and place.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let settings: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let mut all = std::iter::once(&settings.everywhere).chain(settings.collections.values());
        if all.all(|limits| *limits == Limits::default()) {
            return Err("nothing is limited: set `max-running`, `max-hours` or `hours`, in `everywhere` or in one of \
                        `collections`"
                .into());
        }
        Ok(settings)
    }

    /// What holds in a collection.
    pub(crate) fn limits(&self, collection: &str) -> (Option<u32>, Option<&[Window]>) {
        let own = self.collections.get(collection);
        let max_running = own.and_then(|own| own.max_running).or(self.everywhere.max_running);
        let hours = own.and_then(|own| own.hours.as_ref()).or(self.everywhere.hours.as_ref());
        (max_running, hours.map(Vec::as_slice))
    }

    /// How many hours a lab of a collection may last.
    pub(crate) fn max_hours(&self, collection: &str) -> Option<u32> {
        let own = self.collections.get(collection);
        own.and_then(|own| own.max_hours).or(self.everywhere.max_hours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collection_leaves_out_is_as_everywhere() {
        let json =
            r#"{"everywhere": {"max-running": 2}, "collections": {"exam": {"hours": []}, "big": {"max-running": 9}}}"#;
        let settings = Settings::parse(json).unwrap();
        assert_eq!(settings.limits("course").0, Some(2));
        assert!(settings.limits("course").1.is_none());
        assert_eq!(settings.limits("exam").0, Some(2));
        assert_eq!(settings.limits("exam").1.unwrap().len(), 0);
        let json = r#"{"everywhere": {"max-hours": 4}, "collections": {"exam": {"max-hours": 2}, "big": {}}}"#;
        let hours = Settings::parse(json).unwrap();
        assert_eq!(
            [hours.max_hours("exam"), hours.max_hours("big"), hours.max_hours("a")],
            [Some(2), Some(4), Some(4)]
        );
        assert_eq!(settings.limits("big").0, Some(9));
    }

    #[test]
    fn a_mistake_is_named_with_what_would_be_right() {
        for (json, words) in [
            (r#"{"everywhere": {"max_running": 2}}"#, ["max_running", "`max-running`"]),
            (r#"{"everywhere": {"max-running": -1}}"#, ["-1", "u32"]),
            (r#"{"everywhere": {"hours": [{"days": ["monday"], "from": "8:00", "to": "9:00"}]}}"#, ["monday", "`mon`"]),
            (r#"{"everywhere": {"hours": [{"days": ["mon"], "from": "8h", "to": "9:00"}]}}"#, ["8h", "08:30"]),
            (r#"{"utc-offset": "CET", "everywhere": {"max-running": 2}}"#, ["CET", "+01:00"]),
            ("{}", ["nothing is limited", "`max-running`"]),
        ] {
            let error = Settings::parse(json).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{json}: {error}");
        }
    }
}
