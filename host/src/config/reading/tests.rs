use super::*;
use crate::config::{DEFAULT_DATA, Folders, MAX_SHELL_TIMEOUT, ServerConfig};
use crate::history::Retention;

/// The configuration of a text, or all that is wrong with it.
fn parse(text: &str) -> Result<Config, String> {
    let reading = Reading::of(text);
    let errors: Vec<String> = reading.errors.iter().map(ToString::to_string).collect();
    if errors.is_empty() { Ok(reading.config) } else { Err(errors.join("\n")) }
}

fn warnings(text: &str) -> Vec<String> {
    let reading = Reading::of(text);
    assert!(reading.errors.is_empty(), "{:?}", reading.errors);
    reading.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "# nothing\n", "{}"] {
        let config = parse(text).expect(text);
        assert_eq!(config.server.port, 3000);
        assert_eq!(config.shell.user_limit, 20);
    }
}

/// In the form of the files that Antimony's backend has had so far: sections, keys and sorts of values, and `yes`, empty
/// values and empty lists as people write them.
const OF_ANOTHER_SERVER: &str = include_str!("../../../../tests/e2e/config_of_antimony.yml");

#[test]
fn the_file_of_another_server_is_taken_as_it_is() {
    let reading = Reading::of(OF_ANOTHER_SERVER);
    assert!(reading.errors.is_empty(), "{:?}", reading.errors);
    let config = &reading.config;
    assert_eq!((config.server.host.as_str(), config.server.port), ("0.0.0.0", 3100));
    assert_eq!((config.shell.user_limit, config.shell.timeout), (12, 600));
    assert!(config.auth.enable_native);
    assert!(config.capture.enabled && config.capture.excludes("lo") && !config.capture.excludes("eth1"));
    assert_eq!(config.runtime, RuntimeChoice::Containerlab);
    let etc = Path::new("/etc/antimony");
    let folders = Folders { data: etc.join("lab-storage/antimony-host"), run: etc.join("lab-run/antimony-host") };
    assert_eq!(config.folders(None, etc), folders);
    assert_eq!(config.folders(Some(Path::new("data")), etc), Folders::within("data"));
    assert_eq!(Config::default().folders(None, etc), Folders::within(DEFAULT_DATA));
    let about: Vec<&str> = reading.warnings.iter().map(|warning| warning.key.as_str()).collect();
    for key in
        ["capture.sshHost", "capture.sshPort", "capture.sshKeyPath", "ssh", "streaming", "containerlab.kindsConfig"]
    {
        assert_eq!(about.iter().filter(|about| **about == key).count(), 1, "{key}: {about:?}");
    }
    assert!(reading.warnings.iter().all(|warning| warning.place.is_some()), "{:?}", reading.warnings);
}

#[test]
fn both_spellings_of_a_section_are_taken_and_the_documented_one_counts() {
    assert_eq!(parse("fileSystem: {storage: a}").expect("taken").file_system.storage.as_deref(), Some(Path::new("a")));
    let text = "filesystem: {storage: a}\nfileSystem: {storage: b}\n";
    assert_eq!(parse(text).expect("taken").file_system.storage.as_deref(), Some(Path::new("b")));
    let said = warnings(text);
    assert!(said[0].starts_with("1:1: filesystem: ") && said[0].contains("`fileSystem`"), "{said:?}");
}

#[test]
fn a_key_that_nobody_knows_is_named_with_its_place_and_the_nearest_one() {
    for (text, words) in [
        ("server:\n  port: 3000\nshell:\n  userLimitt: 3\n", ["4:3: shell.userLimitt: ", "`shell.userLimit`"]),
        ("sevrer: {port: 1}\n", ["1:1: sevrer: ", "`server`"]),
        ("server:\n  userLimit: 1\n", ["2:3: server.userLimit: ", "`shell.userLimit`"]),
        ("filesystem: {storrage: x}\n", ["1:14: filesystem.storrage: ", "`filesystem.storage`"]),
        ("containerlab: {colour: red}\n", ["1:16: containerlab.colour: ", "known here are "]),
        ("telemetry: {on: true}\n", ["1:1: telemetry: ", "known here are "]),
    ] {
        let said = warnings(text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(words.iter().all(|word| said[0].contains(word)), "{said:?}");
    }
}

#[test]
fn a_misspelt_key_that_could_weaken_a_policy_is_an_error() {
    for (text, words) in [
        ("plugin: {auth-policy: []}", ["1:1: plugin: ", "`plugins`"]),
        ("Plugins: {auth-policy: []}", ["1:1: Plugins: ", "`plugins`"]),
        ("shell:\n  plugins: {auth-policy: []}", ["2:3: shell.plugins: ", "`plugins`"]),
        ("decision_log: {enabled: false}", ["1:1: decision_log: ", "`decision-log`"]),
        ("decision-log: {enabeld: true}", ["1:16: decision-log.enabeld: ", "`decision-log.enabled`"]),
        ("plugins:\n  auth-polcy: []", ["2:3: plugins.auth-polcy: ", "`plugins.auth-policy`"]),
        ("plugins: {auth-policy: [{path: a, on-eror: refuse}]}", ["on-eror: ", "`plugins.auth-policy[0].on-error`"]),
        ("plugins: {auth-policy: [{path: a, sha265: ab}]}", ["sha265: ", "`plugins.auth-policy[0].sha256`"]),
        ("plugins: {auth-policy: [{path: a, budget: {time: 1}}]}", ["budget.time: ", "time-ms"]),
    ] {
        let error = parse(text).expect_err(text);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_misspelt_key_without_which_more_would_be_open_is_an_error_and_others_beside_it_are_not() {
    for (text, words) in [
        ("auth: {enableNativ: false}", ["1:8: auth.enableNativ: ", "`auth.enableNative`"]),
        ("auth: {enableOpenID: true}", ["1:8: auth.enableOpenID: ", "`auth.enableOpenId`"]),
        ("auth: {userFile: team.yml}", ["1:8: auth.userFile: ", "`auth.usersFile`"]),
        ("auth: {openIdGroupClaim: lab}", ["1:8: auth.openIdGroupClaim: ", "`auth.openIdGroupsClaim`"]),
        ("server: {enableNative: false}", ["1:10: server.enableNative: ", "`auth.enableNative`"]),
        ("enableOpenId: true", ["1:1: enableOpenId: ", "`auth.enableOpenId`"]),
        ("Auth: {enableNative: false}", ["1:1: Auth: ", "`auth`"]),
        ("capture: {enable: false}", ["1:11: capture.enable: ", "`capture.enabled`"]),
        ("capture: {excludeInterfaces: [lo]}", ["capture.excludeInterfaces: ", "`capture.excludedInterfaces`"]),
        ("server: {tsl: {certificate: a, key: b}}", ["1:10: server.tsl: ", "`server.tls`"]),
        ("database: {host: db, sslmode: verify-full}", ["1:22: database.sslmode: ", "`database.sslMode`"]),
    ] {
        let error = parse(text).expect_err(text);
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("more is open"), "{text}: {error}");
    }
    for (text, nearest) in [
        ("auth: {openIdAdminGroup: [staff]}", "`auth.openIdAdminGroups`"),
        ("auth: {openIdIsuer: x}", "`auth.openIdIssuer`"),
        ("auth: {sessionTimeout: 3}", "no effect"),
        ("database: {hots: x}", "`database.host`"),
        ("authors: [ada]", "no effect"),
    ] {
        let said = warnings(text);
        assert!(said.len() == 1 && said[0].contains(nearest), "{text}: {said:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_place_and_key() {
    let error =
        parse("server:\n  port: many\nshell:\n  timeout: [1]\nplugins:\n  auth-polcy: []\n").expect_err("wrong");
    for words in ["2:9: server.port: ", "4:12: shell.timeout: ", "6:3: plugins.auth-polcy: "] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = parse("server:\n  host: 127.0.0.1\n port: 1\n").expect_err("no YAML");
    assert!(error.starts_with("3:"), "{error}");
    assert!(parse("[1]").expect_err("no mapping").contains("a mapping"));
}

#[test]
fn a_name_that_looks_like_a_number_is_meant_as_it_was_written() {
    let config = parse("server: {host: 0127}\ncontainerlab: {environment: {LEVEL: 007, ON: yes}}\n").expect("taken");
    assert_eq!(config.server.host, "0127");
    let environment = &config.containerlab.environment;
    assert_eq!((environment["LEVEL"].as_str(), environment["ON"].as_str()), ("007", "yes"));
}

#[test]
fn the_words_of_other_servers_choose_the_runtime_unless_ours_do() {
    let runtime = |text: &str| parse(text).map(|config| config.runtime);
    assert_eq!(runtime("general: {provider: containerlab}"), Ok(RuntimeChoice::Containerlab));
    assert_eq!(runtime("deployment: {provider: ' ContainerLab '}"), Ok(RuntimeChoice::Containerlab));
    assert_eq!(runtime("deployment: {provider: dummy}"), Ok(RuntimeChoice::Embedded));
    assert_eq!(runtime("runtime: auto\ndeployment: {provider: clabernetes}"), Ok(RuntimeChoice::Auto));
    assert_eq!(runtime("runtime: embedded\ngeneral: {provider: containerlab}"), Ok(RuntimeChoice::Embedded));
    assert!(
        warnings("runtime: embedded\ngeneral: {provider: containerlab}")[0].starts_with("2:11: general.provider: ")
    );
    assert!(runtime("deployment:\n  provider: clabernetes").expect_err("none").contains("2:3: deployment.provider: "));
    assert!(runtime("general:\n  provider: docker").expect_err("none").contains("none of containerlab"));
    assert_eq!(runtime("server: {port: 1}"), Ok(RuntimeChoice::Auto));
}

#[test]
fn what_is_wrong_with_a_plugin_is_named_with_its_key_and_place() {
    for (line, key) in [
        ("mod: monitor", "mod"),
        ("mode: monitr", "plugins.auth-policy[1].mode"),
        ("on-error: ignore", "plugins.auth-policy[1].on-error"),
        ("instance: hot", "plugins.auth-policy[1].instance"),
        ("grants: [files]", "plugins.auth-policy[1].grants[0]"),
        ("sha256: abc", "plugins.auth-policy[1].sha256"),
        ("budget: { time-ms: -1 }", "plugins.auth-policy[1].budget.time-ms"),
    ] {
        let text = format!("plugins:\n  auth-policy:\n    - path: a.wasm\n    - path: b.wasm\n      {line}\n");
        let error = parse(&text).expect_err(line);
        assert!(error.contains(key) && error.contains('5'), "{line}: {error}");
    }
}

#[test]
fn what_only_a_restart_changes_is_told_from_what_a_reload_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("antimony.yml");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Config::read(&path).expect("valid")
    };
    let before = read("server: { port: 1 }\nlogs: { firstBytes: 5 }\nplugins: {}\n");
    assert_eq!(before.file(), Some(path.as_path()));
    assert!(before.needs_restart(&read("logs: { firstBytes: 5 }\nserver: { port: 1 }\n")).is_empty());
    let after = "runtime: auto\nserver: { port: 2 }\nshell: { userLimit: 1 }\nplugins: { status-formatter: [] }\n";
    let after = read(after);
    assert_eq!(before.needs_restart(&after), ["logs.firstBytes", "runtime", "server.port", "shell.userLimit"]);
}

#[test]
fn the_schema_takes_what_the_server_takes() {
    let schema = Config::schema();
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("antimony.json", schema).expect("a schema");
    let index = compiler.compile("antimony.json", &mut schemas).expect("a schema that compiles");
    let check = |text: &str| {
        let value: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
        schemas.validate(&value, index).map_err(|error| error.to_string())
    };
    let example = include_str!("../../../../examples/antimony.yml");
    parse(example).expect("the example is valid");
    check(example).expect("the example fits the schema");
    for text in [
        "server: { port: 3000 }",
        "filesystem: { run: x }",
        "fileSystem: { run: x }",
        "auth: { openIdAdminGroups: [a], usersFile: users.yml, openIdScopes: [groups], openIdClientSecret: x }",
        "server: { trustedProxies: [10.0.0.0/8, '::1'] }",
        "runtime: embedded",
        "server: { tls: { certificate: a, key: b, hstsSeconds: 0, redirectFrom: '0.0.0.0:80' } }",
        "server: { cors: { origins: ['https://a.example'] }, headers: { security: false } }",
        "server: { limits: { bodyBytes: 4096, connectionsPerAddress: 1 } }",
        "ui: { dir: web }",
        "capacity: { labs: 10, memory: 32GiB, memoryPerNode: 1000000, collections: { a b: { nodes: 0, memory: '5' } } }",
        "schedule: { warnBefore: [] }",
        "schedule: { warnBefore: [3600, 60] }",
        "containerlab: { program: /opt/containerlab, stopTimeout: 5, schemaUrl: x }",
        "plugins: { auth-policy: [{ path: a, golden: b, grants: [wasi], instance: warm, on-error: refuse }] }",
        "plugins: { auth-policy: [{ path: a, golden: [b, c], settings: 5, budget: { wall-clock-ms: 7 } }] }",
    ] {
        parse(text).expect(text);
        check(text).expect(text);
    }
    for text in [
        "server: { port: many }",
        "server: { port: 70000 }",
        "server: { tls: { certificate: a } }",
        "server: { limits: { headSeconds: 0 } }",
        "runtime: docker",
        "capacity: { labs: -1 }",
        "capacity: { memory: much }",
        "capacity: { memoryPerNode: 0 }",
        "capacity: { collections: { course: { lab: 1 } } }",
        "capacity: { collections: [course] }",
        "schedule: { warnBefore: [0] }",
        "schedule: { warnBefore: 900 }",
        "schedule: { warnbefore: [900] }",
        "containerlab: { stopTimeout: 0 }",
        "shell: { timeout: 99999999 }",
        "plugins: { auth-policy: [{ name: a }] }",
        "plugins: { auth-policy: [{ path: a, sha256: b }] }",
        "plugins: { auth-policy: [{ path: a, grants: [files] }] }",
        "plugins: { auth-policy: [{ path: a, on-error: ignore }] }",
        "plugins: { auth-policies: [] }",
    ] {
        parse(text).expect_err(text);
        check(text).expect_err(text);
    }
}

#[test]
fn the_host_is_an_address_or_a_name() {
    let server = |host: &str| ServerConfig { host: host.to_owned(), port: 7, ..ServerConfig::default() };
    assert_eq!(server("localhost").address().expect("known").to_string(), "127.0.0.1:7");
    assert_eq!(server("0.0.0.0").address().expect("an address").to_string(), "0.0.0.0:7");
    assert_eq!(server("::1").address().expect("an address").to_string(), "[::1]:7");
    let error = server("no host").address().expect_err("nothing").to_string();
    assert!(error.contains("server.host") && error.contains("no host"), "{error}");
}

#[test]
fn a_shell_may_be_idle_for_thirty_days_and_no_longer() {
    let read = |seconds: u64| parse(&format!("shell:\n  timeout: {seconds}\n"));
    assert_eq!(read(MAX_SHELL_TIMEOUT).expect("is taken").shell.timeout, MAX_SHELL_TIMEOUT);
    for seconds in [MAX_SHELL_TIMEOUT + 1, u64::MAX] {
        let error = read(seconds).expect_err("too long");
        assert!(error.contains("shell.timeout") && error.contains("2592000") && error.contains('2'), "{error}");
    }
}

#[test]
fn login_commands_are_command_lines_per_kind() {
    let config = parse("shell:\n  commands:\n    linux: [sh -c 'exec ash']\n").expect("is taken");
    assert_eq!(config.shell.options().commands.of("linux"), &[["sh", "-c", "exec ash"]]);
    for (text, part) in [("[]", "at least one"), ("['']", "empty"), ("[\"sh '\"]", "sh '")] {
        let error = parse(&format!("shell:\n  commands:\n    linux: {text}\n")).expect_err(text);
        assert!(error.contains("shell.commands.linux") && error.contains(part), "{error}");
    }
}

#[test]
fn how_much_is_kept_of_logs_can_be_said() {
    let config = parse("logs:\n  firstBytes: 10\n  latestBytes: 9000000\n").expect("is taken");
    assert_eq!(config.logs.retention(), Retention { first: 10, latest: 9_000_000, behind: 9_000_000 });
}

#[test]
fn a_key_with_nothing_behind_it_counts_as_left_out_and_is_named_but_never_switches_encryption_off() {
    for text in ["server:\n  port: 7\n  tls:\n", "server:\n  port: 7\n  tls: null\n"] {
        let error = parse(text).expect_err("it was meant");
        assert!(error.starts_with("3:3: server.tls: ") && error.contains("`certificate` and `key`"), "{error}");
    }
    for (text, start) in [
        ("server:\n  port:\n", "2:3: server.port: "),
        ("database:\n  host: ~\n", "2:3: database.host: "),
        ("filesystem:\n  storage:\n", "2:3: filesystem.storage: "),
    ] {
        let said = warnings(text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(start) && said[0].contains("it is empty"), "{said:?}");
    }
}
