//! The rules. What they don't mention is allowed: another policy has said already who may do what.
//!
//! | rule | refuses |
//! |---|---|
//! | `opening-hours` | to deploy a lab outside of the hours, and to have one started by the schedule outside of them |
//! | `max-running` | to deploy a lab more than one may run at once |
//! | `max-hours` | to give a lab more time than it may have, also while it runs |
//! | `no-scheduling` | to have a lab started by the schedule where labs are counted: the schedule counts nothing |

use crate::bindings::antimony::plugin::types::{Circumstances, CommandKind, Identity, Lab, LabState};
use crate::bindings::exports::antimony::plugin::policy::{Action, Denial, LabChange};
use crate::hours::{Moment, Window};
use crate::settings::Settings;

const MILLISECONDS_PER_HOUR: u64 = 3_600_000;

/// Decides whether `user` may do `action`.
pub(crate) fn authorize(
    settings: &Settings,
    user: &Identity,
    action: &Action,
    circumstances: Circumstances,
) -> Result<(), Denial> {
    if user.admin && settings.admins_exempt || settings.exempt.contains(&user.id) {
        return Ok(());
    }
    match action {
        Action::Command(request) if request.kind == CommandKind::Deploy => {
            let (max_running, hours) = settings.limits(&request.lab.collection.name);
            opening_hours(settings, hours, &request.lab, circumstances.now, "It is")?;
            quota(max_running, user, &request.lab, circumstances.running_labs)?;
            // By hand it can be deployed before its start time, or although it was made before there was a limit.
            max_hours(settings, &request.lab, circumstances.now)
        }
        Action::CreateLab(lab) => {
            schedule(settings, lab, circumstances.now)?;
            max_hours(settings, lab, lab.start_time)
        }
        Action::UpdateLab(change) => {
            if change.after.start_time != change.before.start_time || !is_up(&change.before) {
                schedule(settings, &change.after, circumstances.now)?;
            }
            let after = &change.after;
            if is_longer(change) { max_hours(settings, after, after.start_time) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn quota(max_running: Option<u32>, user: &Identity, lab: &Lab, running: u32) -> Result<(), Denial> {
    let Some(most) = max_running else { return Ok(()) };
    // To deploy a lab that is up means to bring it up anew: it is among those that run.
    let others = running.saturating_sub(u32::from(is_up(lab) && lab.creator == user.id));
    if others < most {
        return Ok(());
    }
    Err(deny("max-running", format!("You run {} and may run {most} at once: destroy one first", labs(others))))
}

fn is_up(lab: &Lab) -> bool {
    !matches!(lab.state, LabState::Scheduled | LabState::Inactive)
}

/// Whether a lab would have more time, or would come under another limit. What has too much already may keep it, or be
/// given less.
fn is_longer(change: &LabChange) -> bool {
    let length = |lab: &Lab| lab.end_time.map_or(u64::MAX, |end| end.saturating_sub(lab.start_time));
    length(&change.after) > length(&change.before) || change.after.collection.id != change.before.collection.id
}

/// The time of a lab is said when it is created, and moved later on: the end also while it runs.
fn max_hours(settings: &Settings, lab: &Lab, from: u64) -> Result<(), Denial> {
    let Some(most) = settings.max_hours(&lab.collection.name) else { return Ok(()) };
    let last = from.saturating_add(u64::from(most) * MILLISECONDS_PER_HOUR);
    if lab.end_time.is_some_and(|end| end <= last) {
        return Ok(());
    }
    let hours = if most == 1 { "1 hour".into() } else { format!("{most} hours") };
    let (last, offset) = (Moment::new(last, settings.utc_offset), settings.utc_offset);
    let collection = &lab.collection.name;
    let message =
        format!("Labs of the collection {collection} last {hours} at most: this one has to end by {last} ({offset})");
    Err(deny("max-hours", message))
}

/// The schedule deploys a lab at its start time and asks nobody: what it may do has to be said beforehand.
fn schedule(settings: &Settings, lab: &Lab, now: u64) -> Result<(), Denial> {
    if lab.start_time <= now {
        return Ok(());
    }
    let (max_running, hours) = settings.limits(&lab.collection.name);
    opening_hours(settings, hours, lab, lab.start_time, "Its start time is")?;
    if max_running.is_some() && !settings.allow_scheduling {
        let message =
            "Labs here are counted when they are deployed: leave the start time as now, and deploy it by hand";
        return Err(deny("no-scheduling", message.into()));
    }
    Ok(())
}

fn opening_hours(settings: &Settings, hours: Option<&[Window]>, lab: &Lab, at: u64, what: &str) -> Result<(), Denial> {
    let Some(hours) = hours else { return Ok(()) };
    let at = Moment::new(at, settings.utc_offset);
    if hours.iter().any(|window| window.contains(at)) {
        return Ok(());
    }
    let open = hours.iter().map(Window::to_string).collect::<Vec<_>>().join("; ");
    let open = if open.is_empty() { "at no time".into() } else { format!("{open} ({})", settings.utc_offset) };
    let message = format!("{what} {at}. Labs of the collection {} are deployed {open}", lab.collection.name);
    Err(deny("opening-hours", message))
}

fn labs(count: u32) -> String {
    if count == 1 { "1 lab".into() } else { format!("{count} labs") }
}

fn deny(rule: &str, message: String) -> Denial {
    Denial { rule: rule.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::antimony::plugin::types::Collection;
    use crate::bindings::exports::antimony::plugin::policy::CommandRequest;

    const HOUR: u64 = MILLISECONDS_PER_HOUR;
    /// Monday, 2026-11-23T00:00:00Z.
    const MONDAY: u64 = 1_795_392_000_000;

    fn user(id: &str) -> Identity {
        Identity { id: id.into(), admin: false, collections: vec!["course".into()] }
    }

    fn lab(state: LabState) -> Lab {
        let collection = Collection {
            id: "c-1".into(),
            name: "course".into(),
            public_write: true,
            public_deploy: true,
            creator: "root".into(),
        };
        Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            topology_id: "t-1".into(),
            collection,
            creator: "ada".into(),
            start_time: 0,
            end_time: None,
            state,
            nodes: vec![],
        }
    }

    fn command(kind: CommandKind, lab: Lab) -> Action {
        Action::Command(CommandRequest { kind, lab, node: None, shell: None })
    }

    fn deploy(lab: Lab) -> Action {
        command(CommandKind::Deploy, lab)
    }

    /// The rule that refuses, at this time and with so many labs running.
    fn rule(settings: &str, user: &Identity, action: &Action, now: u64, running_labs: u32) -> Option<String> {
        let settings = Settings::parse(settings).unwrap();
        let circumstances = Circumstances { now, open_shells: 0, running_labs };
        authorize(&settings, user, action, circumstances).err().map(|denial| denial.rule)
    }

    const TWO: &str = r#"{"everywhere": {"max-running": 2}}"#;
    const OFFICE: &str = r#"{"utc-offset": "+01:00", "everywhere":
        {"hours": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}}"#;

    #[test]
    fn the_third_lab_is_refused_with_what_to_do() {
        let third = deploy(lab(LabState::Inactive));
        assert_eq!(rule(TWO, &user("ada"), &third, 0, 1), None);
        assert_eq!(rule(TWO, &user("ada"), &third, 0, 2).as_deref(), Some("max-running"));
        let settings = Settings::parse(TWO).unwrap();
        let circumstances = Circumstances { now: 0, open_shells: 0, running_labs: 2 };
        let denial = authorize(&settings, &user("ada"), &third, circumstances).unwrap_err();
        assert_eq!(denial.message, "You run 2 labs and may run 2 at once: destroy one first");
    }

    #[test]
    fn a_lab_that_is_up_can_be_deployed_anew_by_whom_it_counts_for() {
        for state in [LabState::Running, LabState::Failed, LabState::Deploying] {
            assert_eq!(rule(TWO, &user("ada"), &deploy(lab(state)), 0, 2), None, "{state:?}");
            assert_eq!(rule(TWO, &user("eve"), &deploy(lab(state)), 0, 2).as_deref(), Some("max-running"));
        }
    }

    #[test]
    fn what_ends_labs_is_never_refused() {
        let closed = r#"{"everywhere": {"max-running": 0, "hours": []}}"#;
        for kind in [CommandKind::Destroy, CommandKind::StopNode, CommandKind::CloseShell, CommandKind::OpenShell] {
            assert_eq!(rule(closed, &user("ada"), &command(kind, lab(LabState::Running)), 0, 9), None);
        }
        assert_eq!(rule(closed, &user("ada"), &Action::DeleteLab(lab(LabState::Inactive)), 0, 9), None);
        assert_eq!(
            rule(closed, &user("ada"), &deploy(lab(LabState::Inactive)), 0, 0).as_deref(),
            Some("opening-hours")
        );
    }

    #[test]
    fn labs_are_deployed_in_opening_hours_by_the_clock_on_the_wall() {
        let inactive = deploy(lab(LabState::Inactive));
        assert_eq!(rule(OFFICE, &user("ada"), &inactive, MONDAY + 7 * HOUR, 0), None);
        assert_eq!(rule(OFFICE, &user("ada"), &inactive, MONDAY + 7 * HOUR - 1, 0).as_deref(), Some("opening-hours"));
        let settings = Settings::parse(OFFICE).unwrap();
        let circumstances = Circumstances { now: MONDAY + 18 * HOUR, open_shells: 0, running_labs: 0 };
        let denial = authorize(&settings, &user("ada"), &inactive, circumstances).unwrap_err();
        assert_eq!(
            denial.message,
            "It is Mon 19:00. Labs of the collection course are deployed Mon 08:00–18:00 (UTC+01:00)"
        );
    }

    #[test]
    fn a_collection_can_have_limits_of_its_own() {
        let settings =
            r#"{"everywhere": {"max-running": 1}, "collections": {"course": {"max-running": 5, "hours": []}}}"#;
        let mut elsewhere = lab(LabState::Inactive);
        elsewhere.collection.name = "elsewhere".into();
        assert_eq!(rule(settings, &user("ada"), &deploy(elsewhere.clone()), 0, 0), None);
        assert_eq!(rule(settings, &user("ada"), &deploy(elsewhere), 0, 1).as_deref(), Some("max-running"));
        let here = deploy(lab(LabState::Inactive));
        assert_eq!(rule(settings, &user("ada"), &here, 0, 0).as_deref(), Some("opening-hours"));
    }

    #[test]
    fn the_schedule_is_no_way_around_either_rule() {
        let at = |start_time| Action::CreateLab(Lab { start_time, ..lab(LabState::Scheduled) });
        let tuesday = MONDAY + 30 * HOUR;
        assert_eq!(rule(OFFICE, &user("ada"), &at(tuesday), MONDAY, 0).as_deref(), Some("opening-hours"));
        assert_eq!(rule(OFFICE, &user("ada"), &at(MONDAY + 9 * HOUR), MONDAY, 0), None);
        assert_eq!(rule(TWO, &user("ada"), &at(tuesday), MONDAY, 0).as_deref(), Some("no-scheduling"));
        assert_eq!(rule(TWO, &user("ada"), &at(MONDAY), MONDAY, 9), None, "it starts when somebody deploys it");
        let moved = Action::UpdateLab(LabChange {
            before: lab(LabState::Inactive),
            after: Lab { start_time: tuesday, ..lab(LabState::Scheduled) },
        });
        assert_eq!(rule(TWO, &user("ada"), &moved, MONDAY, 0).as_deref(), Some("no-scheduling"));
        let trusting = r#"{"allow-scheduling": true, "everywhere": {"max-running": 2}}"#;
        assert_eq!(rule(trusting, &user("ada"), &moved, MONDAY, 0), None);
    }

    #[test]
    fn a_lab_lasts_no_longer_than_it_may_however_often_its_end_is_moved() {
        let four = r#"{"utc-offset": "+01:00", "everywhere": {"max-hours": 4}}"#;
        let until = |state, hours: Option<u64>| Lab {
            start_time: MONDAY,
            end_time: hours.map(|hours| MONDAY + hours * HOUR),
            ..lab(state)
        };
        let create = |hours| rule(four, &user("ada"), &Action::CreateLab(until(LabState::Scheduled, hours)), 0, 0);
        assert_eq!(create(Some(4)), None);
        assert_eq!([create(Some(5)), create(None)].map(|rule| rule.unwrap()), ["max-hours", "max-hours"]);
        let change = |before, after| {
            let [before, after] = [before, after].map(|hours| until(LabState::Running, hours));
            rule(four, &user("ada"), &Action::UpdateLab(LabChange { before, after }), MONDAY + 2 * HOUR, 1)
        };
        assert_eq!(change(Some(3), Some(4)), None);
        assert_eq!(
            [change(Some(4), Some(5)), change(Some(3), None)].map(|rule| rule.unwrap()),
            ["max-hours", "max-hours"]
        );
        let deploy = |now, hours| rule(four, &user("ada"), &deploy(until(LabState::Inactive, hours)), now, 0);
        assert_eq!(deploy(MONDAY + HOUR, Some(4)), None);
        assert_eq!(deploy(MONDAY - HOUR, Some(4)).as_deref(), Some("max-hours"), "before its start time");
        assert_eq!(deploy(MONDAY, None).as_deref(), Some("max-hours"));
        // From before there was a limit.
        assert_eq!([change(None, Some(9)), change(Some(9), Some(8)), change(Some(9), Some(9))], [None, None, None]);
        let settings = Settings::parse(four).unwrap();
        let denial = max_hours(&settings, &until(LabState::Running, Some(5)), MONDAY).unwrap_err();
        assert_eq!(
            denial.message,
            "Labs of the collection course last 4 hours at most: this one has to end by Mon 05:00 (UTC+01:00)"
        );
    }

    #[test]
    fn the_end_of_a_lab_that_is_up_is_no_start() {
        let settings = r#"{"everywhere": {"max-running": 2, "hours": []}}"#;
        // Deployed by hand before its start time.
        let before = Lab { start_time: MONDAY, ..lab(LabState::Running) };
        let after = Lab { end_time: Some(MONDAY + HOUR), ..before.clone() };
        assert_eq!(rule(settings, &user("ada"), &Action::UpdateLab(LabChange { before, after }), 0, 1), None);
    }

    #[test]
    fn administrators_and_named_people_are_exempt_unless_the_operator_says_otherwise() {
        let none = r#"{"exempt": ["teacher"], "everywhere": {"max-running": 0}}"#;
        let admin = Identity { admin: true, ..user("root") };
        let action = deploy(lab(LabState::Inactive));
        assert_eq!(rule(none, &admin, &action, 0, 0), None);
        assert_eq!(rule(none, &user("teacher"), &action, 0, 0), None);
        let all = r#"{"admins-exempt": false, "everywhere": {"max-running": 0}}"#;
        assert_eq!(rule(all, &admin, &action, 0, 0).as_deref(), Some("max-running"));
    }
}
