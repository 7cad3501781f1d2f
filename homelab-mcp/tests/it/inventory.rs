//! A walk over every tool: what its entry says agrees with itself, its schemas are sound and small, and wrong arguments
//! are explained. The rules are read off the schemas, so a new tool is held to them without a line here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    levels::{all_tools, listed},
    stand_in::StandIn,
    support::Core,
};

/// Names, descriptions and input schemas: what a model reads.
const READ_BUDGET: usize = 16 << 10;
/// The whole list.
const LIST_BUDGET: usize = 48 << 10;
/// Arguments that need no description, since their name, type and range say it all.
const SELF_EVIDENT: [&str; 15] = [
    "confirm",
    "container",
    "cursor",
    "dry_run",
    "include_dismissed",
    "limit",
    "name",
    "node",
    "pool",
    "stack",
    "storage",
    "timestamps",
    "vmid",
    "wait_seconds",
    "workdir",
];
/// Bytes of a string whose schema says no length.
const LONGEST: usize = 4096;

fn tools() -> Vec<Value> {
    listed(&[("CAPABILITY_LEVEL", "4")])["tools"].as_array().unwrap().clone()
}

fn name(tool: &Value) -> &str {
    tool["name"].as_str().unwrap()
}

fn properties(tool: &Value) -> &Map<String, Value> {
    tool["inputSchema"]["properties"].as_object().unwrap()
}

#[test]
fn the_tools_are_those_of_the_contract() {
    let names: Vec<_> = tools().iter().map(|tool| name(tool).to_owned()).collect();
    assert_eq!(
        names,
        [
            "docker_compose_down",
            "docker_compose_up",
            "docker_container_logs",
            "docker_container_stats",
            "docker_exec",
            "docker_inspect_container",
            "docker_list_containers",
            "docker_list_networks",
            "docker_list_stacks",
            "docker_list_volumes",
            "docker_read_compose",
            "docker_restart_container",
            "docker_start_container",
            "docker_stop_container",
            "docker_write_compose",
            "operation_status",
            "opnsense_service_restart",
            "opnsense_status",
            "proxmox_create_snapshot",
            "proxmox_delete_vm",
            "proxmox_list_backups",
            "proxmox_list_nodes",
            "proxmox_list_snapshots",
            "proxmox_list_storage",
            "proxmox_list_vms",
            "proxmox_reboot_vm",
            "proxmox_shutdown_vm",
            "proxmox_start_vm",
            "proxmox_status",
            "proxmox_stop_vm",
            "proxmox_vm_config",
            "proxmox_vm_status",
            "system_info",
            "truenas_alerts",
            "truenas_create_snapshot",
            "truenas_dataset_info",
            "truenas_list_datasets",
            "truenas_list_snapshots",
            "truenas_status",
        ]
    );
}

#[test]
fn names_titles_and_descriptions_have_their_form() {
    let tools = tools();
    for (at, tool) in tools.iter().enumerate() {
        let name = name(tool);
        assert!((1..=40).contains(&name.len()), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
        assert!(!tools[..at].iter().any(|other| other["name"] == *name), "{name} is there twice");
        let title = tool["title"].as_str().unwrap();
        assert!(!title.is_empty() && title.len() <= 40 && !title.ends_with('.'), "{name}: {title}");
        let description = tool["description"].as_str().unwrap();
        assert!(description.ends_with('.') && description.len() > 60, "{name}: {description}");
        assert!(!description.contains("  ") && !description.contains('\n'), "{name}: {description}");
    }
    assert!(tools.is_sorted_by_key(|tool| name(tool).to_owned()), "the order is fixed");
}

#[test]
fn annotations_are_complete_and_agree_with_the_effect() {
    let entries: BTreeMap<_, _> = all_tools().into_iter().map(|entry| (name(&entry).to_owned(), entry)).collect();
    let tools = tools();
    assert_eq!(tools.len(), entries.len(), "level 4 lists every tool");
    for tool in &tools {
        let (name, annotations) = (name(tool), tool["annotations"].as_object().unwrap());
        let entry = &entries[name];
        let hint = |hint: &str| annotations[hint].as_bool().unwrap_or_else(|| panic!("{name} lacks {hint}"));
        let effect = entry["effect"].as_str().unwrap();
        assert_eq!(hint("readOnlyHint"), effect == "read", "{name}");
        assert_eq!(hint("destructiveHint"), effect == "destroy", "{name}");
        hint("idempotentHint");
        hint("openWorldHint");
        assert!(hint("idempotentHint") || effect != "read", "{name}: reading twice is reading once");
        assert!(annotations.get("title").is_none(), "{name}: the title is said once");
        assert_eq!(entry["title"], tool["title"], "{name}");
        let level = entry["level"].as_u64().unwrap();
        assert!(effect == "read" || level >= 2, "{name} changes something at level 1");
        assert!(effect != "destroy" || level == 4, "{name} destroys below level 4");
        let common = ["dry_run", "confirm", "wait_seconds"].iter().all(|name| properties(tool).contains_key(*name));
        assert_eq!(common, effect != "read", "{name}: what every change takes");
    }
}

#[test]
fn input_schemas_are_closed_objects_with_ranges_and_words() {
    for tool in tools() {
        let (name, schema) = (name(&tool), &tool["inputSchema"]);
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{name}");
        for keyword in ["oneOf", "anyOf", "allOf", "not", "$ref", "$defs"] {
            assert!(schema.get(keyword).is_none(), "{name}: {keyword} at the top");
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(properties(&tool).contains_key(required.as_str().unwrap()), "{name}: {required}");
        }
        for (argument, schema) in properties(&tool) {
            let place = format!("{name}.{argument}");
            assert!(
                argument.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()),
                "{place}"
            );
            let described = schema["description"].as_str().is_some_and(|text| text.len() > 5 && text.ends_with('.'));
            let evident = schema.get("enum").is_some() || SELF_EVIDENT.contains(&argument.as_str());
            assert!(described || evident, "{place} needs a description: {schema}");
            bounded(&place, schema);
        }
    }
}

/// Lists have a longest, numbers a smallest and a largest. (Strings have one that is the same for all and in no schema: to
/// repeat it would cost a model a tenth of what it may read. `wrong` tries it.)
fn bounded(place: &str, schema: &Value) {
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().map(|name| name.as_str().unwrap()).collect(),
        name => vec![name.as_str().unwrap_or_else(|| panic!("{place} has no type: {schema}"))],
    };
    for kind in types {
        let keywords: &[_] = match kind {
            "string" | "boolean" => &[],
            "integer" | "number" => &["minimum", "maximum"],
            "array" => &["maxItems", "items"],
            other => panic!("{place}: {other} is no type of an argument"),
        };
        for keyword in keywords {
            assert!(schema.get(*keyword).is_some(), "{place} has no {keyword}: {schema}");
        }
    }
    if let Some(items) = schema.get("items") {
        bounded(&format!("{place}[]"), items);
    }
}

#[test]
fn examples_fit_their_schemas() {
    let mut seen = 0;
    for tool in tools() {
        for (argument, schema) in properties(&tool) {
            let validator = jsonschema::validator_for(schema).unwrap();
            for example in schema["examples"].as_array().into_iter().flatten().chain(schema.get("default")) {
                assert!(validator.is_valid(example), "{}.{argument}: {example}", name(&tool));
                seen += usize::from(schema.get("examples").is_some());
            }
        }
    }
    assert!(seen > 0, "no argument has an example");
}

#[test]
fn output_schemas_are_sound_objects_and_changes_share_an_envelope() {
    for tool in tools() {
        let (name, schema) = (name(&tool), &tool["outputSchema"]);
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
        assert_eq!(schema["type"], "object", "{name}: earlier revisions take nothing else");
        assert!(schema["properties"].as_object().is_some_and(|members| !members.is_empty()), "{name}");
        let validator = jsonschema::validator_for(schema).unwrap();
        assert!(!validator.is_valid(&json!([])) && !validator.is_valid(&json!("x")), "{name}");
        if tool["annotations"]["readOnlyHint"] == false {
            let required = schema["required"].as_array().unwrap();
            for member in ["success", "message", "outcome"] {
                assert!(required.contains(&json!(member)), "{name}: {member} is always there");
            }
            for member in ["target", "operation", "confirm", "plan", "also"] {
                assert!(schema["properties"].get(member).is_some(), "{name}: {member}");
                assert!(!required.contains(&json!(member)), "{name}: {member} may be absent");
            }
        }
    }
}

#[test]
fn what_a_model_reads_stays_small() {
    let tools = tools();
    let compact = |value: &Value| value.to_string().len();
    println!("{:<28}{:>8}{:>8}", "bytes", "read", "listed");
    let mut read = 0;
    for tool in &tools {
        let share = name(tool).len() + tool["description"].as_str().unwrap().len() + compact(&tool["inputSchema"]);
        println!("{:<28}{share:>8}{:>8}", name(tool), compact(tool));
        read += share;
    }
    let list = compact(&listed(&[("CAPABILITY_LEVEL", "4")]));
    println!("{:<28}{read:>8}{list:>8}", "all");
    println!("{:<28}{READ_BUDGET:>8}{LIST_BUDGET:>8}", "budget");
    println!("{:<28}{:>8}{:>8}", "now on average", read / tools.len(), list / tools.len());
    assert!(read < READ_BUDGET, "names, descriptions and input schemas have {read} bytes");
    assert!(list < LIST_BUDGET, "the list has {list} bytes");
}

// --- wrong arguments, read off the schemas --------------------------------------------------------------------------

/// Values that break a schema, each with a word that must stand in the explanation.
fn wrong(schema: &Value) -> Vec<(Value, String)> {
    let mut wrong = Vec::new();
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().map(|name| name.as_str().unwrap()).collect(),
        name => vec![name.as_str().unwrap()],
    };
    let allowed = if schema.get("enum").is_some() { schema["enum"][0].to_string() } else { types[0].to_owned() };
    for (kind, value) in [
        ("string", json!("x")),
        ("integer", json!(1)),
        ("number", json!(1.5)),
        ("boolean", json!(true)),
        ("array", json!(["x"])),
        ("object", json!({"a": 1})),
    ] {
        let fits = types.contains(&kind) || (kind == "integer" && types.contains(&"number"));
        if !fits {
            wrong.push((value, allowed.clone()));
        }
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    if let Some(low) = bound("minimum") {
        wrong.push((json!(low - 1), low.to_string()));
        wrong.push((json!(i64::MIN), low.to_string()));
    }
    if let Some(high) = bound("maximum") {
        wrong.push((json!(high + 1), high.to_string()));
        wrong.push((json!(u64::MAX), high.to_string()));
        wrong.push((json!(1e300), high.to_string()));
    }
    if let Some(low) = bound("minLength").filter(|low| *low > 0) {
        wrong.push((json!("ü".repeat(low as usize - 1)), low.to_string()));
    }
    if types.contains(&"string") && bound("maxLength").is_none() && schema.get("enum").is_none() {
        wrong.push((json!("x".repeat(LONGEST + 1)), LONGEST.to_string()));
    }
    if let Some(high) = bound("maxLength").filter(|high| *high < 100_000) {
        wrong.push((json!("ü".repeat(high as usize + 1)), high.to_string()));
    }
    if schema.get("enum").is_some() {
        wrong.push((json!("no such word"), schema["enum"][0].to_string()));
    }
    if let Some(high) = bound("maxItems") {
        wrong.push((json!(vec!["x"; high as usize + 1]), high.to_string()));
        wrong.push((json!([7]), "array".to_owned()));
    }
    if let Some(low) = bound("minItems").filter(|low| *low > 0) {
        wrong.push((json!(vec!["x"; low as usize - 1]), low.to_string()));
    }
    wrong
}

#[test]
fn wrong_arguments_of_every_tool_are_explained_and_reach_no_backend() {
    let engine = StandIn::engine(|_| None);
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "4"), ("DOCKER_HOST", &engine.host())]);
    let mut tried = 0;
    for tool in tools() {
        let name = name(&tool);
        let mut check = |arguments: Value, words: &[&str]| {
            let said = core.error(name, arguments.clone());
            for word in words.iter().chain(&[name, "Nothing was done"]) {
                assert!(said.contains(word), "{name} {arguments:.200}: {word:?} is missing in {said}");
            }
            assert!(said.len() < 4000, "{name}: {} characters for {arguments:.100}", said.len());
            tried += 1;
        };
        let takes = properties(&tool).keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let takes = if takes.is_empty() { "none" } else { takes.as_str() };
        check(json!({"no_such_argument": 1}), &["`no_such_argument`", takes]);
        check(json!({"Container": "x", "_": null, "": 0}), &["`Container`", "``"]);
        for required in tool["inputSchema"]["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap();
            check(json!({}), &[&format!("`{required}`"), "missing"]);
            check(json!({required: null}), &[&format!("`{required}`"), "missing"]);
        }
        for (argument, schema) in properties(&tool) {
            for (value, allowed) in wrong(schema) {
                check(json!({argument: value}), &[&format!("`{argument}`"), &allowed]);
            }
        }
    }
    assert!(tried > 300, "{tried} wrong arguments");
    assert_eq!(engine.asked(""), 0, "a call with wrong arguments reached the engine");
    core.finish();
}

#[test]
fn several_wrong_arguments_are_explained_at_once() {
    let mut core = Core::start(&[]);
    let said = core.error("docker_container_logs", json!({"lines": "5", "stream": "out", "tail": 3}));
    for word in ["`container`", "`lines`", "`stream`", "`tail`", "500", "stderr"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    core.finish();
}

#[test]
fn whole_numbers_may_be_written_as_fractions_and_null_is_not_given() {
    let mut core = Core::start(&[]);
    core.ok("operation_status", json!({"wait_seconds": 0.0, "operation": null}));
    let said = core.error("operation_status", json!({"wait_seconds": 0.5}));
    assert!(said.contains("`wait_seconds`") && said.contains("integer"), "{said}");
    core.finish();
}
