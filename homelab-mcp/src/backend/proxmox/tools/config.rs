//! A guest's configuration, without the secrets in it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::Level;

use super::failed;
use crate::{
    Core,
    backend::proxmox::{
        client,
        guest::GuestArgs,
        model::{Config, GuestType, text},
    },
    error::ToolError,
    redact,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

pub(crate) struct VmConfig;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    #[serde(flatten)]
    guest: GuestArgs,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    vmid: u32,
    name: String,
    node: String,
    #[serde(rename = "type")]
    kind: GuestType,
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<u64>,
    /// MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    /// The one it starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// The server's document, as in force now.
    config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Tool for VmConfig {
    const ABOUT: About = About {
        name: "proxmox_vm_config",
        title: "Read a guest's configuration",
        text: "Read a guest's configuration: CPU, memory, disks, networks (secrets masked).",
        level: Level::Configure,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["name", "config"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Read for VmConfig {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        let doing = format!("read the configuration of guest {}", args.guest.called());
        let read = async {
            let client = client(&core)?;
            let found = client.find(&args.guest).await?;
            let config = client.config(&found.at).await?;
            Ok((found, config))
        };
        let (found, mut config) = read.await.map_err(failed(&core, doing))?;
        if core.config.redact {
            mask(&mut config);
        }
        let document = Value::Object(config);
        let whole = |name| crate::backend::proxmox::model::whole(&document, name);
        let (cores, memory) = (whole("cores").or_else(|| whole("cpus")), memory(&document));
        let disk = start_disk(&document);
        let config = if let Value::Object(config) = document { config } else { Map::new() };
        Ok(Out {
            vmid: found.at.vmid,
            name: found.name,
            node: found.at.node.to_string(),
            kind: found.at.kind,
            cores,
            memory,
            disk,
            config,
            note: found.note,
        })
    }
}

/// `2048`, or `current=2048` in the form that 8.1 brought.
fn memory(config: &Value) -> Option<u64> {
    let text = text(config, "memory")?;
    let first = text.split(',').next()?;
    first.strip_prefix("current=").unwrap_or(first).parse().ok()
}

/// The disk that the guest starts from: named by `bootdisk`, first in `boot`, or a container's root.
fn start_disk(config: &Value) -> Option<String> {
    let boot = text(config, "boot").unwrap_or_default();
    let order = boot.split(',').find_map(|part| part.strip_prefix("order=")).unwrap_or_default();
    let is_disk =
        |name: &&str| text(config, name).is_some_and(|disk| !disk.contains("media=cdrom")) && !name.starts_with("net");
    let named = text(config, "bootdisk");
    let name = named.as_deref().into_iter().chain(order.split(';')).find(is_disk);
    text(config, name.unwrap_or("rootfs"))
}

/// Takes out what may be a secret: values by their key and shape, and those members that a password is commonly put in.
fn mask(config: &mut Config) {
    for (key, value) in config.iter_mut() {
        let Value::String(text) = value else { continue };
        match key.as_str() {
            // Whoever may log in with them is nobody's business here.
            "cipassword" | "sshkeys" | "ssh-public-keys" => *text = redact::MASK.to_owned(),
            "args" => *text = masked_arguments(text),
            // Environment of a container's program, separated by zeros.
            "env" => {
                let pairs: Vec<_> = text.split('\0').map(redact::env_pair).collect();
                *text = pairs.join("\0");
            }
            _ => {}
        }
    }
    // Raw lines of a container are pairs: [["lxc.environment", "KEY=value"]].
    if let Some(Value::Array(lines)) = config.get_mut("lxc") {
        for line in lines {
            if let Some([_, Value::String(text)]) = line.as_array_mut().map(Vec::as_mut_slice) {
                *text = redact::env_pair(text);
            }
        }
    }
    let mut document = Value::Object(std::mem::take(config));
    redact::json(&mut document);
    if let Value::Object(masked) = document {
        *config = masked;
    }
}

/// `-object secret,id=s0,data=…` hides its secrets behind commas.
fn masked_arguments(text: &str) -> String {
    let words: Vec<_> = text
        .split(' ')
        .map(|word| {
            let mut secret_object = false;
            let parts: Vec<_> = word
                .split(',')
                .map(|part| {
                    secret_object |= part == "secret" || part.ends_with("=secret");
                    match part.split_once('=') {
                        Some((name, value))
                            if redact::secret_pair(name, value) || (secret_object && name == "data") =>
                        {
                            format!("{name}={}", redact::MASK)
                        }
                        _ => redact::mask_text(part).into_owned(),
                    }
                })
                .collect();
            parts.join(",")
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_do_not_pass_and_the_rest_does() {
        let Value::Object(mut config) = json!({
            "cores": 2, "memory": "2048", "name": "web", "cipassword": "**********", "ciuser": "admin",
            "sshkeys": "ssh-ed25519%20AAAAC3Nz", "description": "Notes\npassword: hunter2-long\n",
            "args": "-object secret,id=s0,data=q7fD2kLp -device x,password=sEcReT9 -cpu host",
            "hookscript": "local:snippets/hook.sh", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "lxc": [["lxc.environment", "DB_PASSWORD=hunter2-long"], ["lxc.cap.drop", ""]],
            "env": "A=1\0API_TOKEN=abcdef0123456789",
        }) else {
            panic!()
        };
        mask(&mut config);
        let text = Value::Object(config.clone()).to_string();
        for secret in ["hunter2", "q7fD2kLp", "sEcReT9", "AAAAC3Nz", "**********", "abcdef0123456789"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for kept in
            ["-cpu host", "local:snippets/hook.sh", "BC:24:11:00:00:01", "Notes", "lxc.cap.drop", "A=1", "id=s0"]
        {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert_eq!((&config["cores"], &config["memory"]), (&json!(2), &json!("2048")));
    }

    #[test]
    fn memory_and_the_start_disk_are_found_in_every_form() {
        for (given, size) in [(json!("64"), 64), (json!(256), 256), (json!("current=2048"), 2048)] {
            assert_eq!(memory(&json!({"memory": given})), Some(size));
        }
        assert_eq!(memory(&json!({})), None);
        for (config, disk) in [
            (
                json!({"boot": "order=net0;ide2;scsi0", "net0": "x", "ide2": "a,media=cdrom", "scsi0": "z:d"}),
                Some("z:d"),
            ),
            (json!({"boot": "cdn", "bootdisk": "virtio0", "virtio0": "z:e"}), Some("z:e")),
            (json!({"rootfs": "z:r"}), Some("z:r")),
            (json!({"boot": " "}), None),
        ] {
            assert_eq!(start_disk(&config).as_deref(), disk, "{config}");
        }
    }
}
