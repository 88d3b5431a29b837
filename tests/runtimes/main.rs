//! The same behaviour on every runtime: one set of tests, each run on the embedded runtime and on containerlab with a
//! real Docker engine. What only containerlab can do, or suffer, is in [`faults`], [`absence`], [`links`], [`revive`]
//! and [`scale`].
//!
//! `tests/containerlab/prepare` makes ready what containerlab needs. Where that was not run, or a machine can't have it, its
//! half is left out, and said to be, on lines that begin with `left out:`.
//! `cargo test --test runtimes containerlab::` runs the tests of one runtime, `cargo test --test runtimes paste` one test on both.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should say where")]

mod absence;
mod bench;
mod captures;
mod deploys;
mod engine;
mod faults;
mod files;
#[path = "../e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it is made for other suites, and this one doesn't use all of it")]
mod harness;
mod links;
mod logs;
mod machine;
mod nodes;
mod proxy;
mod revive;
mod saves;
mod scale;
mod shells;
mod stats;
mod words;

use std::sync::atomic::{AtomicU32, Ordering};

/// Runs each of the behaviours on each of the runtimes, as `embedded::name` and `containerlab::name`, and then looks whether
/// anything is left. A behaviour is a function of a [`bench::Bench`]; one that isn't listed is never used, which the
/// compiler says.
macro_rules! on_both_runtimes {
    ($($module:ident: $($name:ident),+;)+) => {
        /// On the embedded runtime.
        mod embedded {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::ready(crate::bench::Runtime::Embedded, stringify!($name)) {
                    crate::$module::$name(&bench).await;
                }
            })+)+
        }

        /// On containerlab and Docker.
        mod containerlab {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::ready(crate::bench::Runtime::Containerlab, stringify!($name)) {
                    crate::$module::$name(&bench).await;
                    bench.leaves_nothing().await;
                }
            })+)+
        }
    };
}

on_both_runtimes! {
    captures:
        a_capture_of_a_ping_has_its_echoes_and_no_others_and_ends_with_its_node,
        an_interface_that_is_not_there_is_refused_with_those_that_are;
    deploys:
        a_lab_lives_from_deploy_over_redeploy_to_destroy,
        a_deploy_tells_each_line_as_it_is_written_however_long_one_is,
        a_destroy_during_a_deploy_ends_it_with_an_error_announces_no_success_and_leaves_nothing,
        a_node_that_cannot_start_fails_the_deploy_with_the_reason_and_the_lab_can_be_mended,
        what_defaults_kinds_and_groups_say_counts_for_their_nodes,
        what_reaches_for_the_host_is_refused_to_members_by_policy_and_nothing_is_begun;
    files:
        files_of_a_topology_are_seen_by_its_nodes_as_they_were_when_it_was_deployed;
    saves:
        a_checkpoint_brings_back_definition_and_files_on_every_runtime;
    nodes:
        stop_start_and_restart_of_a_node_close_its_shells_with_an_announcement_and_its_links_work_again,
        stopping_a_node_gives_its_process_the_time_to_end_by_itself,
        names_with_dashes_and_capitals_and_names_that_begin_alike_mean_the_right_node_everywhere,
        stopping_a_node_of_one_lab_leaves_the_shells_of_its_namesake_in_another_alone,
        a_node_that_ends_by_itself_has_exited_and_can_be_started_again,
        a_node_that_is_killed_behind_our_back_has_exited_and_its_shells_are_closed;
    logs:
        a_node_log_is_had_by_the_name_and_by_the_container_id_of_its_node,
        a_node_log_goes_on_in_the_same_namespace_when_its_lab_is_deployed_anew,
        the_log_of_a_node_goes_on_in_the_same_namespace_over_stop_start_and_restart,
        a_node_that_prints_faster_than_anybody_reads_loses_no_line,
        a_long_line_and_what_is_no_text_do_not_stop_the_log_of_a_node;
    stats:
        what_nodes_use_is_told_of_those_that_use_it_and_nothing_of_those_that_are_stopped,
        a_ping_moves_the_counters_of_its_link_and_of_no_other;
    shells:
        a_node_without_bash_gets_a_shell_and_one_without_any_a_clear_error_and_nothing_half_open,
        output_that_is_cut_within_a_character_arrives_whole,
        a_paste_of_a_mebibyte_arrives_whole_and_in_order_in_one_piece_and_in_many,
        closing_a_shell_ends_its_process_and_what_it_started_in_the_node,
        a_terminal_has_the_size_that_its_viewer_says,
        what_is_run_in_a_node_is_what_the_operator_says_for_its_kind,
        a_shell_that_ends_by_itself_is_announced_as_closed;
    words:
        a_node_that_has_stopped_is_not_stopped_again,
        whoever_waits_for_a_deploy_when_the_server_ends_is_told_so,
        a_lab_whose_end_time_passes_is_destroyed_with_that_as_the_reason;
}

/// Two routers and a link between them, as a person finds them in `examples/`, with the image that they name for containerlab.
fn two_routers() -> String {
    let example = include_str!("../../examples/labs/two-routers.clab.yml");
    let defaults = "  defaults:\n    kind: linux\n";
    assert!(example.contains(defaults));
    let image =
        format!("{defaults}    image: lab/busybox:1\n    image-pull-policy: never\n    restart-policy: \"no\"\n");
    let mut topology = example.replace(defaults, &image);
    for (node, address) in [("r1", "10.0.0.1/30"), ("r2", "10.0.0.2/30")] {
        // containerlab leaves the addresses of links to those who know how their kind of node is told, and for linux that is
        // nobody.
        let exec = format!("    {node}:\n      exec: [ip address replace {address} dev eth1]\n");
        topology = topology.replace(&format!("    {node}:\n"), &exec);
    }
    apart(&topology)
}

/// The defaults of all nodes of these tests; the embedded runtime has no use for an image, and says so. Unless told
/// otherwise, containerlab has Docker start a node of kind linux again that has ended, however it did, without its links.
const DEFAULTS: &str =
    "defaults: {kind: linux, image: \"lab/busybox:1\", image-pull-policy: never, restart-policy: \"no\"}";

/// A lab of one node and nothing else.
fn one_node() -> String {
    lab("one", "n1: {}")
}

/// A topology of these nodes, each on a line of its own.
fn lab(name: &str, nodes: &str) -> String {
    let nodes: String = nodes.lines().map(|line| format!("    {line}\n")).collect();
    apart(&format!("name: {name}\ntopology:\n  {DEFAULTS}\n  nodes:\n{nodes}"))
}

/// The same topology with a management network of its own. Servers take turns with the networks that their labs share, but
/// know nothing of other servers', and here many have labs on one engine.
fn apart(topology: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    // Out of the way of what Docker and containerlab choose by themselves.
    let subnet = format!("10.{}.{}.0/24", 100 + process % 100, number % 256);
    format!("mgmt: {{network: {}{number}, ipv4-subnet: {subnet}}}\n{topology}", networks())
}

/// How the names of the management networks of this run begin.
fn networks() -> String {
    format!("antimony-{}-", std::process::id())
}

/// A word of a topology that says what a shell is to do, however that is quoted.
fn sh(script: &str) -> String {
    serde_json::to_string(&format!("sh -c {}", shell_words::quote(script))).expect("text is JSON, and JSON is YAML")
}
