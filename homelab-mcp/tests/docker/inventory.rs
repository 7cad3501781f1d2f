//! Every tool there is answers on a real engine, and what it answers fits what it advertises.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    lab::{IDLE, Lab},
    stacks::service,
};

#[test]
fn every_tool_answers_with_what_its_schema_promises() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let name = lab.stack("stack", &format!("services:\n{}", service("app")));
    let compose = lab.text(&format!("services:\n{}", service("other")));
    let mut core = lab.core(&[("CONFIRM", "never")]);
    let id = core.request("tools/list", json!({}));
    let tools = core.answer(id)["result"]["tools"].as_array().unwrap().clone();
    let listed: BTreeSet<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();

    let calls = [
        ("docker_compose_up", json!({"stack": name})),
        ("docker_list_containers", json!({"name": lab.prefix()})),
        ("docker_container_logs", json!({"container": web})),
        ("docker_container_stats", json!({"container": web})),
        ("docker_stop_container", json!({"container": web})),
        ("docker_start_container", json!({"container": web})),
        ("docker_restart_container", json!({"container": web})),
        ("docker_inspect_container", json!({"container": web})),
        ("docker_exec", json!({"container": web, "command": "true"})),
        ("docker_list_stacks", json!({"name": name})),
        ("docker_read_compose", json!({"stack": name})),
        ("docker_list_volumes", json!({"name": lab.prefix()})),
        ("docker_list_networks", json!({"name": lab.prefix()})),
        ("docker_write_compose", json!({"stack": lab.name("new"), "compose": compose})),
        ("docker_compose_down", json!({"stack": name})),
        ("operation_status", json!({})),
        ("system_info", json!({})),
    ];
    let called: BTreeSet<_> = calls.iter().map(|(tool, _)| (*tool).to_owned()).collect();
    // Those of appliances are called on the lab, in `tests/it`.
    let appliances = ["opnsense_", "proxmox_", "truenas_"];
    let listed: BTreeSet<_> =
        listed.into_iter().filter(|tool| !appliances.iter().any(|prefix| tool.starts_with(prefix))).collect();
    assert_eq!(called, listed, "a tool without a call here is a tool without a test");
    for (name, arguments) in calls {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        // The harness holds the result against the output schema.
        let result = core.call(name, arguments);
        assert_ne!(result["isError"], json!(true), "{name}: {result}");
        let told = &result["structuredContent"];
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(&serde_json::from_str::<Value>(text).unwrap(), told, "{name}: the text is the same object");
        // A member that is not advertised is one that a client does not know of.
        let properties = tool["outputSchema"]["properties"].as_object().unwrap();
        for member in told.as_object().unwrap().keys() {
            assert!(properties.contains_key(member), "{name} answers `{member}`, which its schema does not have");
        }
        let reads = tool["annotations"]["readOnlyHint"] == true;
        assert_eq!(told.get("outcome").is_none(), reads, "{name}: exactly the changing tools have an outcome");
    }
}
