//! End-to-end suites: a real server on a port of its own, real clients, real nodes.
//!
//! One program, since each would link all of the host. `cargo test --test e2e crash` runs the suite `crash`. What a
//! machine lacks for some test is said on a line that begins with `left out:`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should say where")]

mod backlog;
mod browser;
mod captures;
mod catalogue;
mod checkpoints;
mod commands;
mod configuration;
mod connect;
mod contract;
mod crash;
mod ctl;
mod database;
mod decision_log;
mod demo;
mod doctor;
mod edge;
mod guide;
mod harness;
mod import;
mod interop;
mod isolation;
mod languages;
mod login;
mod node_logs;
mod observability;
mod openapi;
mod plugins;
mod policy;
mod policy_examples;
mod protocol;
mod reload;
mod reservations;
mod rest_table;
mod restart;
mod shells;
mod specification;
mod spine;
mod startup;
mod stats;
mod tokens;
mod topologies;
mod whole;

/// Two routers and a link between them, as a person finds them in `examples/`.
const TWO_ROUTERS: &str = include_str!("../../examples/labs/two-routers.clab.yml");

/// One node and nothing else.
const ONE_NODE: &str = "name: one\ntopology:\n  nodes:\n    n1:\n      kind: linux\n";

/// A lab whose deploy doesn't end by itself within any test's patience.
const ENDLESS_DEPLOY: &str = "name: endless
topology:
  nodes:
    n1:
      kind: linux
      exec:
        - sh -c 'echo deploy has begun; sleep 600'
";
