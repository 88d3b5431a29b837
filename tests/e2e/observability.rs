//! What an operator sees of a running server: metrics, health, plugins, and the log of a refusal.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Server, ServerBuilder, User, code_of, eventually};
use crate::plugins::build;

/// The figures at one moment.
#[derive(Debug, Default)]
struct Figures {
    /// Type by family.
    types: BTreeMap<String, String>,
    /// Value by name and labels, which are sorted.
    samples: BTreeMap<(String, Labels), f64>,
    text: String,
}

type Labels = BTreeMap<String, String>;

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Reads `{a="b",…}` strictly; answers what follows it.
fn read_labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        assert!(is_name(name), "{name}");
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().expect("the value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("something is escaped").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("\\{c} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} is there twice");
        let rest = &rest[end + 1..];
        match rest.split_at(1) {
            (",", more) => text = more,
            ("}", more) => return (labels, more),
            other => panic!("{other:?}"),
        }
    }
}

impl Figures {
    /// Reads the text format, as strictly as it is specified.
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends too");
        let mut figures = Self { text: text.to_owned(), ..Self::default() };
        let mut family = String::new();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty() && helped.insert(name.to_owned()), "{line}");
                family = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family, "help and type belong together");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(figures.types.insert(family.clone(), kind.to_owned()).is_none(), "{line}");
            } else {
                let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
                let (name, rest) = line.split_at(end);
                let (labels, rest) = match rest.strip_prefix('{') {
                    Some(labels) => read_labels(labels),
                    None => (Labels::new(), rest),
                };
                let value: f64 = rest.strip_prefix(' ').unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
                let suffixes: &[&str] =
                    if figures.types[&family] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let of_family = suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(&family));
                assert!(is_name(name) && of_family, "{line} is among those of {family}");
                assert!(figures.samples.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
            }
        }
        figures.check_histograms();
        figures
    }

    /// Steps add up, and the last is all.
    fn check_histograms(&self) {
        for name in self.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut steps: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), value) in self.samples.iter().filter(|((of, _), _)| *of == format!("{name}_bucket")) {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap();
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                steps.entry(labels).or_default().push((bound, *value));
            }
            for (labels, mut steps) in steps {
                steps.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(steps.is_sorted_by(|a, b| a.1 <= b.1), "{name} {labels:?}: {steps:?}");
                let last = *steps.last().unwrap();
                let count = self.samples[&(format!("{name}_count"), labels.clone())];
                assert_eq!(last, (f64::INFINITY, count), "{name} {labels:?}");
            }
        }
    }

    async fn of(server: &Server) -> Self {
        let response = antimony_host::client::http().get(format!("{}/metrics", server.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Self::read(&response.text().await.unwrap())
    }

    /// The sum of the samples of `name` that have these labels, among others.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |all: &Labels| labels.iter().all(|(name, value)| all.get(*name).is_some_and(|known| known == value));
        let matching = self.samples.iter().filter(|((of, all), _)| of == name && has(all));
        matching.map(|(_, value)| value).sum()
    }
}

const CALLS: &str = "antimony_plugin_calls_total";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_decisions_commands_and_the_server_and_name_nobody() {
    let mut server = Server::start().await;
    let before = Figures::of(&server).await;
    assert_eq!(before.sum("antimony_commands_total", &[]), 0.0);
    let admin = server.admin().await;
    let lab = admin.create_lab("secret-course", ONE_NODE).await;
    let member = server.member("secret-student", &["secret-course"]).await;
    assert_eq!(code_of(member.deploy(&lab).await), 5403);
    assert_eq!(code_of(admin.command(&lab, 6, json!({"node": "r9"})).await), 5006);
    assert_eq!(code_of(admin.command("no-such-lab", 5, json!({})).await), 5005);
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));

    let now = Figures::of(&server).await;
    let calls =
        |hook, function, outcome| now.sum(CALLS, &[("hook", hook), ("function", function), ("outcome", outcome)]);
    assert_eq!(calls("auth-policy", "authorize", "deny"), 1.0);
    assert!(calls("auth-policy", "authorize", "allow") >= 3.0);
    assert!(calls("auth-policy", "identify", "answer") >= 2.0);
    assert_eq!(calls("command-validator", "validate", "reject"), 1.0);
    assert_eq!(calls("command-validator", "validate", "allow"), 2.0);
    // Each question is in the histogram of its function, once.
    for hook in ["auth-policy", "command-validator", "status-formatter"] {
        let counted = now.sum("antimony_plugin_call_duration_microseconds_count", &[("hook", hook)]);
        assert_eq!(counted, now.sum(CALLS, &[("hook", hook)]), "{hook}");
        assert_eq!(now.sum("antimony_plugin_info", &[("hook", hook), ("plugin", hook), ("mode", "enforce")]), 1.0);
        assert_eq!(now.sum("antimony_plugin_breaker_open", &[("hook", hook)]), 0.0);
    }
    let answered = |kind, code| now.sum("antimony_commands_total", &[("kind", kind), ("code", code)]);
    assert_eq!((answered("deploy", "5403"), answered("open-shell", "5006")), (1.0, 1.0));
    assert_eq!((answered("list-shells", "0"), answered("list-shells", "5005")), (1.0, 1.0));
    assert_eq!(now.sum("antimony_command_duration_seconds_count", &[]), 4.0);
    assert_eq!(now.sum("antimony_labs", &[]), 1.0);
    assert!(now.sum("antimony_sessions", &[]) >= 2.0);
    assert_eq!(now.sum("antimony_shells_open", &[]), 0.0);
    assert_eq!(now.sum("antimony_captures", &[]), 0.0);
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds_total"] {
        assert!(now.sum(name, &[]) > 0.0, "{name}");
    }
    for secret in ["secret-course", "secret-student", &lab, "admin"] {
        assert!(!now.text.contains(secret), "{secret}");
    }

    // The log says who was refused what, by which plugin and rule, and why: what the user was told.
    let refused = member.deploy(&lab).await.unwrap_err().to_string();
    eventually(async || {
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("a command was refused")).unwrap_or_default();
        let said = ["secret-student", "kind=\"deploy\"", "plugin auth-policy", "rule ", &lab];
        let sentence = line.split_once("refusal=").map_or("", |(_, sentence)| sentence);
        if said.iter().all(|word| line.contains(word)) && !sentence.is_empty() && refused.contains(sentence.trim_end())
        {
            return Ok(());
        }
        Err(format!("{line}\n{refused}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_is_an_outcome_of_its_own() {
    let test = "outcomes of hostile plugins in metrics";
    let Some(misbehaves) = build(test, "tests/guests/misbehaves").await else { return };
    let Some(validator) = build(test, "tests/guests/bad-validator").await else { return };
    let Some(formatter) = build(test, "tests/guests/bad-formatter").await else { return };
    let ways = [
        ("loop-forever", "timeout"),
        ("take-memory", "out-of-memory"),
        ("trap", "trap"),
        ("overflow-stack", "stack"),
        ("answer-a-lot", "oversize"),
        ("answer-no-text", "invalid-answer"),
        ("refuse", "deny"),
        ("log-a-lot", "allow"),
    ];
    // All of them watched: each is asked, and none keeps the others from being asked.
    // They have time enough for it on a busy machine.
    let rest = "mode: monitor, budget: { concurrency: 4, time-ms: 1000 }, breaker: { failures: 0 }";
    let mut config = "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n".to_owned();
    for (way, _) in ways {
        let path = misbehaves.display();
        config.push_str(&format!("    - {{ path: {path}, name: {way}, settings: {{ authorize: {way} }}, {rest} }}\n"));
    }
    let path = validator.display();
    config.push_str("  command-validator:\n    - path: builtin:command-validator\n");
    config
        .push_str(&format!("    - {{ path: {path}, name: rewrites, settings: {{ deploy-instead: true }}, {rest} }}\n"));
    config.push_str(&format!("    - {{ path: {path}, name: elsewhere, {rest} }}\n"));
    config.push_str(&format!(
        "  status-formatter:\n    - {{ path: {}, breaker: {{ failures: 0 }} }}\n",
        formatter.display()
    ));
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "nobody is in the way of anything");

    eventually(async || {
        let now = Figures::of(&server).await;
        let of = |plugin, function, outcome| {
            now.sum(CALLS, &[("plugin", plugin), ("function", function), ("outcome", outcome)])
        };
        for (way, outcome) in ways {
            let all = now.sum(CALLS, &[("plugin", way), ("function", "authorize")]);
            let busy = of(way, "authorize", "busy");
            if of(way, "authorize", outcome) < 1.0 || of(way, "authorize", outcome) + busy < all {
                return Err(format!("{way}: {outcome} is due\n{}", now.text));
            }
            if of(way, "identify", "leave") + of(way, "identify", "busy") < 1.0 {
                return Err(format!("{way} was not asked who somebody is\n{}", now.text));
            }
        }
        let cut = now.sum("antimony_plugin_log_cut_total", &[]);
        if cut < 1.0 || cut != now.sum("antimony_plugin_log_cut_total", &[("plugin", "log-a-lot")]) {
            return Err(format!("{cut} logs were cut"));
        }
        match (of("rewrites", "validate", "rewrite"), of("elsewhere", "validate", "invalid-answer")) {
            (1.0, 1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_that_it_is_alive_and_ready_and_which_plugins_decide() {
    let server = Server::start().await;
    assert_eq!(server.api().get("/healthz").await.unwrap(), "ok");
    let response = antimony_host::client::http().get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let ready: Value = response.json().await.unwrap();
    assert_eq!(ready["ready"], true);
    let checks: Vec<_> =
        ready["checks"].as_array().unwrap().iter().map(|check| (&check["name"], &check["ok"])).collect();
    assert_eq!(
        checks,
        ["store", "plugins", "runtime"]
            .map(|name| (Value::from(name), Value::from(true)))
            .each_ref()
            .map(|(a, b)| (a, b))
    );
    let plugins = ready["plugins"].as_array().unwrap();
    assert_eq!(plugins.len(), 3);
    for plugin in plugins {
        assert_eq!(plugin["name"], plugin["hook"], "the bundled one");
        assert_eq!((plugin["digest"].as_str().unwrap().len(), &plugin["breakerOpen"]), (64, &false.into()));
        assert!(!plugin["version"].as_str().unwrap().is_empty());
    }
    assert_eq!(ready["reload"]["lastError"], Value::Null);

    // With all the rest, for administrators alone.
    let admin = server.admin().await;
    let list = admin.api.get("/api/plugins").await.unwrap();
    let policy = list["plugins"].as_array().unwrap().iter().find(|plugin| plugin["hook"] == "auth-policy").unwrap();
    assert_eq!(policy["digest"], plugins.iter().find(|plugin| plugin["hook"] == "auth-policy").unwrap()["digest"]);
    assert_eq!((&policy["path"], &policy["mode"]), (&"builtin:auth-policy".into(), &"enforce".into()));
    assert!(policy["calls"].as_u64().unwrap() > 0, "{policy}");
    let member = server.member("student", &[]).await;
    assert_eq!(member.api.get("/api/plugins").await.unwrap_err().refusal(), Some((403, 5403)));
    let nobody = server.api().get("/api/plugins").await.unwrap_err();
    assert_eq!(nobody.refusal().map(|(status, _)| status), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_loops_in_all_its_calls_takes_the_server_from_nobody() {
    let test = "a plugin that always loops";
    let Some(looping) = build(test, "tests/guests/authorize-loops").await else { return };
    // Beside every question to the policy, and never left alone.
    let config = format!(
        "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n    - path: {}\n      mode: monitor\n      budget: \
         {{ time-ms: 2000 }}\n      breaker: {{ failures: 0 }}\n",
        looping.display()
    );
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let member = server.member("student", &["course"]).await;
    for _ in 0..100 {
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
        assert_eq!(code_of(member.deploy(&lab).await), 5403);
        assert_eq!(server.api().get("/healthz").await.unwrap(), "ok");
    }
    // Not one of those was late enough to fail, and none of the others was ever left out.
    let now = Figures::of(&server).await;
    for plugin in ["auth-policy", "command-validator", "status-formatter"] {
        for outcome in ["timeout", "busy"] {
            assert_eq!(now.sum(CALLS, &[("plugin", plugin), ("outcome", outcome)]), 0.0, "{plugin} {outcome}");
        }
    }
    eventually(async || {
        let now = Figures::of(&server).await;
        let looping = |outcome| now.sum(CALLS, &[("plugin", "authorize-loops"), ("outcome", outcome)]);
        let (timeout, busy) = (looping("timeout"), looping("busy"));
        if timeout >= 1.0 && busy >= 1.0 { Ok(()) } else { Err(format!("{timeout} looped, {busy} found no room")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_keeps_failing_is_left_alone_and_others_notice_nothing() {
    let test = "the breaker";
    let Some(looping) = build(test, "tests/guests/authorize-loops").await else { return };
    let config = format!(
        "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n    - path: {}\n      settings: {{ on: deploy }}\n      \
         breaker: {{ failures: 3, cool-down-ms: 3600000 }}\n",
        looping.display()
    );
    let mut server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let (lab, other_lab) = (admin.create_lab("course", ONE_NODE).await, admin.create_lab("other", ONE_NODE).await);
    let member = server.member("student", &["course"]).await;
    // The answers of the other functions of the same plugin would close it: nothing else is asked in between.
    let failure = async |lab: &str| match admin.deploy(lab).await {
        Err(antimony_host::client::AckError::Refused { code: 5000, message }) => message,
        other => panic!("{other:?}"),
    };
    for _ in 0..3 {
        assert!(failure(&lab).await.contains("time budget"));
    }
    let at_once = failure(&lab).await;
    assert!(at_once.contains("authorize-loops") && at_once.contains("keeps failing"), "{at_once}");
    let now = Figures::of(&server).await;
    let plugin = ("plugin", "authorize-loops");
    assert_eq!(now.sum("antimony_plugin_breaker_open", &[plugin]), 1.0);
    assert_eq!(now.sum(CALLS, &[plugin, ("outcome", "timeout")]), 3.0);
    assert_eq!(now.sum(CALLS, &[plugin, ("outcome", "breaker-open")]), 1.0);
    let ready = antimony_host::client::http().get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "it may be one user's doing");
    let ready: Value = ready.json().await.unwrap();
    let open: Vec<_> = ready["plugins"].as_array().unwrap().iter().filter(|one| one["breakerOpen"] == true).collect();
    assert!(matches!(open[..], [one] if one["name"] == "authorize-loops"), "{ready}");
    // What has shown nothing yet is put to it: here in vain, and there not.
    assert!(failure(&other_lab).await.contains("time budget"));
    assert!(failure(&other_lab).await.contains("keeps failing"));
    assert_eq!(member.command(&lab, 5, json!({})).await, Ok(json!([])), "somebody else is served");
    // The answer that they got closes it.
    let now = Figures::of(&server).await;
    assert_eq!(now.sum("antimony_plugin_breaker_open", &[plugin]), 0.0);
    assert_eq!(now.sum("antimony_plugin_breaker_opened_total", &[plugin]), 1.0);
    eventually(async || {
        let log = server.log();
        let said =
            |text: &str| log.lines().filter(|line| line.contains(text) && line.contains("authorize-loops")).count();
        match (said("its breaker opens"), said("its breaker closes")) {
            (1, 1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
