//! Secrets: keys are shown, values are not, wherever they could come out; the operator can have it otherwise.

use serde_json::json;

use crate::{
    lab::{IDLE, Lab, docker, rows, text, until},
    stacks::service,
};

const SECRET: &str = "Zebra-71-quantum";

fn with_secrets(lab: &Lab) -> String {
    let options = [
        "-e".to_owned(),
        format!("DB_PASSWORD={SECRET}"),
        "-e".to_owned(),
        format!("DATABASE_URL=postgres://app:{SECRET}@db:5432/app"),
        "-e".to_owned(),
        "COLOUR=blue".to_owned(),
        "--label".to_owned(),
        format!("backup.api_key={SECRET}"),
        "--label".to_owned(),
        "backup.path=/data".to_owned(),
    ];
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    lab.run("web", &options, &format!("echo connecting to postgres://app:{SECRET}@db; {IDLE}"))
}

#[test]
fn inspect_masks_values_and_keeps_keys() {
    let lab = Lab::new();
    let web = with_secrets(&lab);
    let mut core = lab.core(&[("CAPABILITY_LEVEL", "3")]);
    let result = core.call("docker_inspect_container", json!({"container": web}));
    assert!(!result.to_string().contains(SECRET), "{result}");
    let config = &result["structuredContent"]["config"]["Config"];
    let env = rows(config, "Env");
    assert!(env.contains(&json!("DB_PASSWORD=[redacted]")) && env.contains(&json!("COLOUR=blue")), "{env:?}");
    let url = env.iter().find_map(|entry| entry.as_str().unwrap().strip_prefix("DATABASE_URL=")).unwrap();
    assert!(url.starts_with("postgres://app:") && url.ends_with("@db:5432/app") && url.contains("[redacted]"), "{url}");
    assert_eq!(
        (&config["Labels"]["backup.api_key"], &config["Labels"]["backup.path"]),
        (&json!("[redacted]"), &json!("/data"))
    );
    // Asking for the one member is no way around.
    let some =
        core.ok("docker_inspect_container", json!({"container": web, "fields": ["Config.Env", "Config.Labels"]}));
    assert!(!some.to_string().contains(SECRET), "{some}");

    let mut open = lab.core(&[("REDACT", "off")]);
    open.wait_for_log("REDACT=off");
    let whole = open.ok("docker_inspect_container", json!({"container": web}));
    assert!(rows(&whole["config"]["Config"], "Env").contains(&json!(format!("DB_PASSWORD={SECRET}"))));
}

#[test]
fn logs_and_command_output_are_masked_where_they_look_like_secrets() {
    let lab = Lab::new();
    let web = with_secrets(&lab);
    until("it logs", || docker(&["logs", &web]).contains("connecting"));
    let mut core = lab.core(&[]);
    let logs = core.ok("docker_container_logs", json!({"container": web}));
    assert!(
        text(&logs, "logs").contains("connecting to postgres://app:") && !logs.to_string().contains(SECRET),
        "{logs}"
    );
    let done = core.ok("docker_exec", json!({"container": web, "command": "echo $DATABASE_URL; env; env >&2"}));
    assert!(text(&done, "stdout").contains("COLOUR=blue") && text(&done, "stderr").contains("DB_PASSWORD="), "{done}");
    assert!(!done.to_string().contains(SECRET), "{done}");
    let mut open = lab.core(&[("REDACT", "off")]);
    let done = open.ok("docker_exec", json!({"container": web, "command": "echo $DB_PASSWORD"}));
    assert_eq!(text(&done, "stdout"), SECRET);
}

#[test]
fn nothing_that_leaves_the_program_holds_a_secret() {
    let lab = Lab::new();
    let web = with_secrets(&lab);
    let environment =
        format!("    environment:\n      API_TOKEN: {SECRET}\n      FROM_ENV_PASSWORD: \"${{DB_PASSWORD}}\"\n");
    let name = lab.stack("stack", &format!("services:\n{}{environment}", service("app")));
    lab.file("stack", ".env", &format!("DB_PASSWORD={SECRET}\n"));
    let mut core = lab.core(&[("CONFIRM_KEY", &format!("{SECRET}-{SECRET}-{SECRET}"))]);
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    let changed = text(&read, "compose").replace("services:", "# changed\nservices:");
    let broken = changed.replace("image:", "imagee:");
    for (tool, arguments) in [
        ("docker_list_containers", json!({"name": lab.prefix()})),
        ("docker_container_logs", json!({"container": web})),
        ("docker_container_stats", json!({"container": web})),
        ("docker_inspect_container", json!({"container": web})),
        ("docker_list_stacks", json!({"name": name})),
        ("docker_write_compose", json!({"stack": name, "compose": broken, "expected_sha256": read["sha256"]})),
        ("docker_write_compose", json!({"stack": name, "compose": changed, "dry_run": true})),
        ("docker_write_compose", json!({"stack": name, "compose": changed})),
        ("docker_write_compose", json!({"stack": name, "compose": changed, "expected_sha256": read["sha256"]})),
        ("docker_compose_up", json!({"stack": name})),
        ("docker_inspect_container", json!({"container": format!("{name}-app-1")})),
        ("docker_exec", json!({"container": format!("{name}-app-1"), "command": "env"})),
        ("docker_restart_container", json!({"container": web})),
        ("docker_compose_down", json!({"stack": name})),
        ("operation_status", json!({})),
    ] {
        let result = core.call(tool, arguments);
        assert!(!result.to_string().contains(SECRET), "{tool}: {result}");
    }
    let transcript = core.transcript();
    let received = &transcript[transcript.find("received:").unwrap()..];
    assert!(!received.contains(SECRET), "answers and log");
    // Kept on disk with a secret in it is only what was a file of the stack before.
    let mut folders = vec![core.state.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.starts_with(core.state.path().join("kept")) {
                assert!(
                    !String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(SECRET),
                    "{}",
                    path.display()
                );
            }
        }
    }
    // The containers themselves got the real values.
    assert!(docker(&["exec", &web, "env"]).contains(SECRET));
}
