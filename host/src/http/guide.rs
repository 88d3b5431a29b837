//! What helps people write topologies: kinds of nodes, and the JSON schema of topology files.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;

use super::extract::Caller;
use super::{Answer, Api, answer};
use crate::topology::devices::Device;

/// A kind of node as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceJson {
    kind: String,
    name: String,
    interface_pattern: String,
    interface_start: u32,
}

impl From<&Device> for DeviceJson {
    fn from(device: &Device) -> Self {
        Self {
            kind: device.kind.clone(),
            name: device.name.clone(),
            interface_pattern: device.interface_pattern.clone(),
            interface_start: device.interface_start,
        }
    }
}

/// `GET /devices`: the kinds of nodes, and how their interfaces are called.
pub(super) async fn devices(State(api): State<Api>, _caller: Caller) -> Answer<Vec<DeviceJson>> {
    answer(api.guide.devices().iter().map(DeviceJson::from).collect())
}

/// `GET /clab-schema`: the JSON schema of topology files. For everybody.
pub(super) async fn schema(State(api): State<Api>) -> Answer<Arc<Value>> {
    answer(api.guide.schema().await)
}
