//! What labs may take, and until when they have it: `ctl capacity` and `ctl extend`.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::CtlError;
use super::labs::{entries, find, text};
use super::output::{Output, printable, table};
use super::session::Session;

/// Another end of a lab.
#[derive(Debug, Args)]
pub(super) struct Extend {
    #[command(flatten)]
    lab: super::Lab,
    /// When it shall end: in so long (1h, 90m), so much later than now planned (+30m), or a time such as
    /// 2026-12-01T18:00:00Z
    #[arg(value_name = "WHEN", required_unless_present = "indefinite", conflicts_with = "indefinite")]
    when: Option<String>,
    /// It shall not end by itself
    #[arg(long)]
    indefinite: bool,
}

/// Moves the end of a lab, also while it runs.
pub(super) async fn extend(session: &mut Session, extend: &Extend, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, &extend.lab.lab).await?;
    let end = match &extend.when {
        Some(when) => Some(end(when, text(&lab, "endTime").parse().ok(), Timestamp::now()).map_err(CtlError::Other)?),
        None => None,
    };
    let body = end.map_or_else(|| json!({ "indefinite": true }), |end| json!({ "endTime": end }));
    session.request(Method::PATCH, &format!("/labs/{}", text(&lab, "id")), Some(&body)).await?;
    let name = printable(text(&lab, "name"));
    output.answer(&json!({ "labId": lab["id"], "endTime": end }), || match end {
        Some(end) => format!("{name} ends at {end}"),
        None => format!("{name} does not end by itself"),
    })
}

/// The end that is meant, where `present` is the one that a lab has.
fn end(when: &str, present: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = when.parse() {
        return Ok(time);
    }
    let (later, length) = when.strip_prefix('+').map_or((false, when), |length| (true, length));
    let length = length.parse::<SignedDuration>().ok().filter(|length| length.is_positive());
    let length = length.ok_or_else(|| {
        format!("{when} is no end: say one such as 1h, +30m (later than now planned) or 2026-12-01T18:00:00Z")
    })?;
    let from = match (later, present) {
        (false, _) => now,
        (true, Some(present)) => present,
        (true, None) => return Err("the lab doesn't end by itself, so that there is no end to be moved".to_owned()),
    };
    // The server keeps no more of it, and nobody wants to read more.
    let end = from.checked_add(length).and_then(|end| Timestamp::from_second(end.as_second()));
    end.map_err(|error| format!("{when} is no end that is possible: {error}"))
}

/// Shows what labs may take, and how much of it is reserved at present.
pub(super) async fn capacity(session: &mut Session, output: &Output) -> Result<(), CtlError> {
    let capacity = session.get("/capacity").await?;
    output.answer(&capacity, || {
        let row = |name: String, of: &Value| {
            let used = |key: &str, shown: fn(u64) -> String| {
                let limit = of["limits"][key].as_u64().map_or_else(|| "any".to_owned(), shown);
                format!("{} of {limit}", shown(of["reserved"][key].as_u64().unwrap_or_default()))
            };
            vec![name, used("labs", count), used("nodes", count), used("memory", mebibytes)]
        };
        let collections = entries(&capacity["collections"]).iter();
        let collections = collections.map(|one| row(printable(text(one, "name")), one));
        let rows: Vec<_> = [row("(all)".to_owned(), &capacity)].into_iter().chain(collections).collect();
        table(&["COLLECTION", "LABS", "NODES", "MEMORY"], &rows)
    })
}

fn count(count: u64) -> String {
    count.to_string()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_while_from_now_or_later_than_planned() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (now, planned) = (time("2030-01-31T10:00:00.7Z"), Some(time("2030-01-31T11:00:00Z")));
        assert_eq!(end("1h", planned, now), Ok(time("2030-01-31T11:00:00Z")));
        assert_eq!(end("90m", None, now), Ok(time("2030-01-31T11:30:00Z")));
        assert_eq!(end("+1h30m", planned, now), Ok(time("2030-01-31T12:30:00Z")));
        assert_eq!(end("2030-02-01T08:00:00+01:00", planned, now), Ok(time("2030-02-01T07:00:00Z")));
        assert!(end("+30m", None, now).expect_err("no end").contains("doesn't end by itself"));
        for wrong in ["tomorrow", "5", "-1h", "+", "", "+-1h", "9999999999h"] {
            assert!(end(wrong, planned, now).expect_err(wrong).contains("is no end"), "{wrong}");
        }
    }
}
