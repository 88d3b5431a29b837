//! The week: times of day, windows of opening hours, and the clock on the wall, which is UTC and an offset.

use std::fmt;

use serde::Deserialize;

const MINUTES_PER_DAY: u64 = 24 * 60;
const MILLISECONDS_PER_MINUTE: u64 = 60_000;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

const WEEK: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

/// Minutes since midnight, up to 24:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(u64);

/// Minutes that the clock on the wall is ahead of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Offset(i64);

/// Hours on some days of the week. One that ends before it begins goes on until the next day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, try_from = "WindowText")]
pub(crate) struct Window {
    days: Vec<Day>,
    from: Time,
    to: Time,
}

/// The same as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowText {
    days: Vec<Day>,
    from: Time,
    to: Time,
}

/// A minute of the week, as the clock on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    day: Day,
    time: Time,
}

impl Moment {
    /// When it is `timestamp` (milliseconds since 1970, UTC) somewhere else.
    pub(crate) fn new(timestamp: u64, offset: Offset) -> Self {
        let minutes = (timestamp / MILLISECONDS_PER_MINUTE).saturating_add_signed(offset.0);
        // 1970 began on a Thursday.
        let day = (minutes / MINUTES_PER_DAY + 3) % 7;
        Self { day: WEEK[day as usize], time: Time(minutes % MINUTES_PER_DAY) }
    }
}

impl Window {
    /// Whether it is open then.
    pub(crate) fn contains(&self, moment: Moment) -> bool {
        let today = self.days.contains(&moment.day);
        if self.from < self.to {
            return today && self.from <= moment.time && moment.time < self.to;
        }
        let yesterday = self.days.contains(&WEEK[(moment.day as usize + 6) % 7]);
        today && self.from <= moment.time || yesterday && moment.time < self.to
    }
}

/// `08:30`, or several days and two of them.
fn minutes(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60).then_some(hours.checked_mul(60)? + minutes)
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time = minutes(&text).filter(|time| *time <= MINUTES_PER_DAY).map(Self);
        time.ok_or_else(|| format!("{text:?} is no time of day, such as 08:30 or 24:00"))
    }
}

impl TryFrom<String> for Offset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let ahead = text.strip_prefix(['+', '-']).and_then(minutes).filter(|ahead| *ahead <= 18 * 60);
        let ahead = ahead.ok_or_else(|| format!("{text:?} is no offset from UTC, such as +01:00 or -05:30"))?;
        Ok(Self(sign * ahead as i64))
    }
}

impl TryFrom<WindowText> for Window {
    type Error = String;

    fn try_from(text: WindowText) -> Result<Self, String> {
        let WindowText { days, from, to } = text;
        if days.is_empty() {
            return Err("`days` of opening hours can't be empty".into());
        }
        if from == to || from.0 == MINUTES_PER_DAY {
            return Err(format!("opening hours from {from} to {to} are none; all day is from 00:00 to 24:00"));
        }
        Ok(Self { days, from, to })
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "UTC{sign}{}", Time(self.0.unsigned_abs()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.day, self.time)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, day) in self.days.iter().enumerate() {
            write!(f, "{}{day:?}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, " {}–{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    /// Monday, 2026-11-23T00:00:00Z.
    const MONDAY: u64 = 1_795_392_000_000;

    fn window(json: &str) -> Window {
        serde_json::from_str(json).unwrap()
    }

    fn offset(text: &str) -> Offset {
        Offset::try_from(text.to_owned()).unwrap()
    }

    fn open(window: &Window, timestamp: u64) -> bool {
        window.contains(Moment::new(timestamp, Offset::default()))
    }

    #[test]
    fn the_days_of_the_week_are_right() {
        assert_eq!(Moment::new(0, Offset::default()).to_string(), "Thu 00:00");
        assert_eq!(Moment::new(MONDAY, Offset::default()).to_string(), "Mon 00:00");
        assert_eq!(Moment::new(MONDAY + 6 * DAY + 90 * 60_000, Offset::default()).to_string(), "Sun 01:30");
    }

    #[test]
    fn the_offset_can_make_it_another_day() {
        assert_eq!(Moment::new(MONDAY, offset("-05:30")).to_string(), "Sun 18:30");
        assert_eq!(Moment::new(MONDAY + 23 * HOUR, offset("+02:00")).to_string(), "Tue 01:00");
        assert_eq!(offset("-05:30").to_string(), "UTC-05:30");
    }

    #[test]
    fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
        let office = window(r#"{"days": ["mon", "tue"], "from": "08:00", "to": "18:00"}"#);
        for (at, expected) in [
            (MONDAY + 8 * HOUR - 1, false),
            (MONDAY + 8 * HOUR, true),
            (MONDAY + 18 * HOUR - 1, true),
            (MONDAY + 18 * HOUR, false),
            (MONDAY + DAY + 9 * HOUR, true),
            (MONDAY + 2 * DAY + 9 * HOUR, false),
        ] {
            assert_eq!(open(&office, at), expected, "{}", Moment::new(at, Offset::default()));
        }
        assert_eq!(office.to_string(), "Mon, Tue 08:00–18:00");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(r#"{"days": ["sun"], "from": "22:00", "to": "06:00"}"#);
        assert!(open(&night, MONDAY + 5 * HOUR));
        assert!(!open(&night, MONDAY + 6 * HOUR));
        assert!(!open(&night, MONDAY + 23 * HOUR));
        assert!(open(&night, MONDAY + 6 * DAY + 22 * HOUR));
        assert!(!open(&night, MONDAY + 6 * DAY + 5 * HOUR));
    }

    #[test]
    fn a_whole_day_can_be_said_and_no_time_at_all_cannot() {
        let all_day = window(r#"{"days": ["mon"], "from": "00:00", "to": "24:00"}"#);
        assert!(open(&all_day, MONDAY) && open(&all_day, MONDAY + DAY - 1) && !open(&all_day, MONDAY + DAY));
        for wrong in [
            r#"{"days": ["mon"], "from": "08:00", "to": "08:00"}"#,
            r#"{"days": [], "from": "08:00", "to": "09:00"}"#,
            r#"{"days": ["mon"], "from": "24:00", "to": "09:00"}"#,
            r#"{"days": ["mon"], "from": "08:60", "to": "09:00"}"#,
            r#"{"days": ["mon"], "from": "+8:00", "to": "09:00"}"#,
            r#"{"days": ["mon"], "from": "08:00", "to": "24:01"}"#,
            r#"{"days": ["mon"], "from": "08:00", "until": "09:00"}"#,
        ] {
            assert!(serde_json::from_str::<Window>(wrong).is_err(), "{wrong}");
        }
    }
}
