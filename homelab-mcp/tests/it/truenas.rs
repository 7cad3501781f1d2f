//! TrueNAS through the real binary: every release over its own protocol, all six tools, and each oddity of the API.
//!
//! Oddity, and the test that shows it is met:
//!
//! | TrueNAS | test |
//! |---|---|
//! | REST up to 24.10, JSON-RPC from 25.04 on, told by `/api/versions`; REST raises an alert there, and is gone on 26 | `each_release_is_spoken_to_in_its_own_way` |
//! | short and long versions | `every_release_has_a_status` |
//! | ONLINE and healthy with a warning; everything null in an exported pool; raw sizes; the boot pool elsewhere; guids | `every_release_has_a_status` |
//! | seven levels, HTML, control characters, templates without text, dismissed ones, `{"$date"}` | `every_release_has_its_alerts` |
//! | `retrieve_children:false` without a filter gives the roots only; with children each row repeats its descendants | `every_release_lists_its_datasets`, `two_thousand_datasets_are_one_request_and_fit` |
//! | nulls of an unset quota, `-` of a locked dataset, no mount point of a volume, internal datasets | `every_release_lists_its_datasets` |
//! | encrypted, locked and key_loaded are missing without the property | `every_release_lists_its_datasets` |
//! | comments among the user properties | `every_release_shows_a_dataset` |
//! | `zfs.snapshot` up to 25.04, `pool.snapshot` since; 26 shows only properties asked for, and plain seconds | `every_release_lists_snapshots`, `every_release_takes_snapshots` |
//! | an unknown dataset has the snapshots `[]` | `what_is_not_there_is_said` |
//! | one that exists: -32602 with 17 in `extra` on 26, -32001/17 before, 422 on REST | `a_snapshot_that_exists_is_told_in_every_shape` |
//! | 25.10 checks names in part, 26 not at all | `bad_names_are_refused_before_anything_is_sent` |
//! | missing dataset: -32001/22 on 26, 14 on 25.10; two branches of a union; `[ENOENT] None: …`; tracebacks | `its_errors_are_told_without_its_traceback` |
//! | up to 25.10 a traceback holds the API key | `the_key_is_in_no_output_whatever_goes_wrong` |
//! | 20 calls of one connection at a time; logins are counted | `many_calls_share_one_connection_and_one_login` |
//! | the 21st anonymous call in a minute is EBUSY | `the_limit_on_logins_is_kept` |
//! | answers to login_ex: AUTH_ERR, EXPIRED, DENIED, OTP_REQUIRED, REDIRECT, and what is new | `each_answer_to_a_login_is_told` |
//! | login_with_api_key says only no, and is gone on 27; plain keys may be forbidden | `a_key_without_a_user_is_told_what_helps` |
//! | REST: 401 for a wrong key, 500 for an unknown one, 403 for a missing role | `a_key_that_rest_refuses_is_told`, `a_missing_role_is_named` |
//! | a key over plain transport is revoked | `the_key_goes_nowhere_else` |
//! | redirects by `/api/versions`, the handshake and REST | `the_key_goes_nowhere_else` |
//! | close 1008, and 403 on REST, for an address that is not allowed | `an_address_that_is_not_allowed_is_told` |
//! | notifications before results, unasked; frames beyond 16 MiB | `noise_and_size_do_not_matter` |
//! | a restart drops the sockets without a word, then 502 | `a_restart_of_the_middleware_costs_one_call_at_most` |
//! | answers that never come | `silence_costs_the_time_out_and_the_others_nothing` |
//! | its connections hold 20 calls, those given up included | `silence_costs_the_time_out_and_the_others_nothing` |
//! | a create whose answer is lost | `a_snapshot_whose_answer_is_lost_is_looked_for_and_not_asked_for_twice` |
//!
//! Not shown: SCRAM, job methods (none is used), batches and notifications (never sent), pinned versions (never asked for),
//! 25.04's own REST (never used there).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lab::{
    Fault, Options, Reply, Request, Rule, Server,
    truenas::{Alert, Dataset, Encryption, Issue, Kind, PROFILES, Profile, RpcError, TrueNas},
};
use serde_json::{Value, json};

use crate::{
    appliances::{Always, Env, Machine},
    support::{Core, run},
    wire::until,
};

const STATUS: &str = "truenas_status";
const ALERTS: &str = "truenas_alerts";
const DATASETS: &str = "truenas_list_datasets";
const DATASET: &str = "truenas_dataset_info";
const SNAPSHOTS: &str = "truenas_list_snapshots";
const CREATE: &str = "truenas_create_snapshot";

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A TrueNAS whose refusals are not late.
fn nas(profile: Profile) -> Machine<TrueNas> {
    let nas = TrueNas::new(profile);
    nas.refusal_delay(Duration::ZERO);
    Machine::start(nas)
}

/// With this user's key, and the user's name where there is no login without one.
fn env_as(nas: &Machine<TrueNas>, user: &str) -> Env {
    let env = nas.env("TRUENAS").and("TRUENAS_API_KEY", &nas.lab.key(user));
    if nas.lab.profile() >= Profile::V27 { env.and("TRUENAS_USERNAME", user) } else { env }
}

fn env(nas: &Machine<TrueNas>) -> Env {
    env_as(nas, "svc")
}

fn rpc() -> impl Iterator<Item = Profile> {
    PROFILES.into_iter().filter(|profile| profile.has_jsonrpc())
}

/// The method that takes snapshots.
fn creating(nas: &Machine<TrueNas>) -> String {
    format!("{}.create", nas.lab.profile().snapshot_service())
}

/// How often a snapshot was asked for, under either name.
fn asked_to_create(nas: &Machine<TrueNas>) -> usize {
    nas.lab.calls("pool.snapshot.create").len() + nas.lab.calls("zfs.snapshot.create").len()
}

/// Logins, whether they went well or not.
fn logins(nas: &Machine<TrueNas>) -> usize {
    nas.lab.calls("auth.login_with_api_key").len() + nas.lab.calls("auth.login_ex").len()
}

fn snapshots(nas: &Machine<TrueNas>) -> Vec<String> {
    nas.lab.world(|world| world.snapshots.iter().map(lab::truenas::Snapshot::id).collect())
}

/// The middleware restarts; returns when its sockets are gone.
fn restart(nas: &Machine<TrueNas>, down: Duration) {
    nas.lab.restart(down);
    until("the sockets are dropped", || nas.lab.sessions() == 0);
}

/// A change that did not come out as asked; its structured answer.
fn refused(core: &mut Core, arguments: Value) -> Value {
    let result = core.call(CREATE, arguments);
    assert_eq!(result["isError"], true, "{result}");
    result["structuredContent"].clone()
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// Seconds since 1970 as the tools write them.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap().to_string()
}

#[test]
fn every_release_has_a_status() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let status = core.ok(STATUS, json!({}));
        core.finish();
        assert_eq!(status["version"], profile.info_version());
        let release: String = profile.long_version().chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        assert!(release.starts_with(status["release"].as_str().unwrap()), "{status}");
        assert_eq!((&status["hostname"], &status["model"]), (&json!("attic-nas"), &json!("EPYC3000D4I")));
        assert_eq!((&status["uptime"], &status["ecc"]), (&json!("291h"), &json!(true)));
        assert!((1_048_215..1_048_300).contains(&status["uptime_seconds"].as_u64().unwrap()), "{status}");
        assert!(status.get("problems").is_none(), "{profile:?}: {status}");

        let ended = nas.lab.world(|world| world.pools[0].scan.as_ref().unwrap().end.unwrap());
        let fine = json!({"read": 0, "write": 0, "checksum": 0});
        let pools = json!([
            {
                "name": "attic", "status": "ONLINE", "healthy": true, "warning": true,
                "status_detail": "Some supported and requested features are not enabled on the pool.",
                "used_percent": 25.0, "used": "1 TiB", "available": "3 TiB",
                "used_bytes": TIB, "available_bytes": 3 * TIB, "errors": fine,
            },
            {
                "name": "flash", "status": "DEGRADED", "healthy": false, "warning": false,
                "status_detail": "One or more devices have been removed by the administrator. Sufficient replicas exist \
                                  for the pool to continue functioning in a degraded state.",
                "used_percent": 35.57, "used": "690 GiB", "available": "1.22 TiB",
                "used_bytes": 690 * GIB, "available_bytes": 1250 * GIB,
                "scan": {"function": "RESILVER", "state": "SCANNING", "percent": 37.25, "errors": 0, "seconds_left": 6045},
                "errors": {"read": 3, "write": 12, "checksum": 17},
                "bad": [
                    {"name": "mirror-0", "state": "DEGRADED", "read": 0, "write": 0, "checksum": 0},
                    {"name": "sdd", "state": "ONLINE", "read": 0, "write": 0, "checksum": 17},
                    {"name": "/dev/disk/by-partuuid/5f0e", "state": "REMOVED", "read": 3, "write": 12, "checksum": 0},
                ],
            },
            {"name": "shelf", "status": "OFFLINE", "healthy": false, "warning": false},
            {
                "name": "tank", "status": "ONLINE", "healthy": true, "warning": false,
                "used_percent": 42.5, "used": "3.32 TiB", "available": "4.49 TiB",
                "used_bytes": 3400 * GIB, "available_bytes": 4600 * GIB,
                "scan": {"function": "SCRUB", "state": "FINISHED", "percent": 100.0, "errors": 0,
                    "ended": time(ended / 1000)},
                "errors": fine,
            },
            {
                "name": "boot-pool", "status": "ONLINE", "boot": true, "healthy": true, "warning": false,
                "used_percent": 9.0, "used": "9 GiB", "available": "91 GiB",
                "used_bytes": 9 * GIB, "available_bytes": 91 * GIB, "raw": true, "errors": fine,
            },
        ]);
        assert_eq!(status["pools"], pools, "{profile:?}: {status:#}");
    }
}

#[test]
fn each_release_is_spoken_to_in_its_own_way() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        core.ok(STATUS, json!({}));
        core.ok(ALERTS, json!({}));
        core.ok(DATASETS, json!({}));
        core.ok(DATASET, json!({"dataset": "tank/laptop backup"}));
        core.ok(SNAPSHOTS, json!({"dataset": "tank/media"}));
        core.ok(CREATE, json!({"dataset": "tank/laptop backup", "name": "a b"}));
        core.finish();
        let seen = nas.server.seen();
        let rest = seen.iter().filter(|seen| seen.target.starts_with("/api/v2.0/")).count();
        let sockets = seen.iter().filter(|seen| seen.target == "/api/current").count();
        if profile.has_jsonrpc() {
            assert_eq!((rest, sockets, nas.lab.sessions_opened()), (0, 1, 1), "{profile:?}: {seen:?}");
            assert_eq!((nas.lab.login_attempts(), logins(&nas)), (1, 1));
            assert!(!nas.lab.world(|world| world.alerts.iter().any(|alert| alert.klass == "RESTAPIUsage")));
        } else {
            assert!(rest > 5 && sockets == 0, "{profile:?}: {seen:?}");
        }
        // Which one it is, is asked once, and without the key; the key goes to the API alone.
        let asked: Vec<_> = seen.iter().filter(|seen| seen.target == "/api/versions").collect();
        assert_eq!(asked.len(), 1);
        let key = nas.lab.key("svc");
        for one in &seen {
            let to_rest = one.target.starts_with("/api/v2.0/");
            assert_eq!(one.header("authorization").is_some(), to_rest, "{one:?}");
            assert!(!one.target.contains(&key) && one.header("cookie").is_none());
            assert!(
                one.target.bytes().all(|byte| byte.is_ascii_graphic()) && !one.target.contains("backup@"),
                "{one:?}"
            );
        }
        // Nothing is filtered that may be null, and nothing but what is documented is asked for.
        for call in nas.lab.all_calls() {
            assert!(!call.method.starts_with("core.") || call.method == "core.ping", "{call:?}");
            let filters = call.params.first().and_then(Value::as_array).cloned().unwrap_or_default();
            for filter in filters {
                assert_eq!(filter[1], "=", "{call:?}");
            }
        }
    }
}

#[test]
fn every_release_has_its_alerts() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let told = core.ok(ALERTS, json!({}));
        let mut expected = vec![
            ("EMERGENCY", "Sensor: 'CPU <1> Temp' is above its limit. See the manual."),
            ("ALERT", "Space usage for pool 'attic' is 92%."),
            (
                "CRITICAL",
                "Pool flash state is DEGRADED: One or more devices have been removed.\nThe following devices are not \
                 healthy:\n- Disk WDC WD40EFRX WD-4711 is REMOVED",
            ),
            ("ERROR", "Replication \"tank to attic\" failed: connection reset."),
            ("WARNING", "New ZFS version or feature flags are available for pool 'attic'."),
            ("NOTICE", "Certificate 'truenas_default' is expiring within 9 days."),
            ("INFO", "Long self-test of sda finished."),
        ];
        if profile.has_jsonrpc() {
            // As old as the other notice.
            expected.insert(5, ("NOTICE", "Something happened to %(what)s."));
        }
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let rows = told["alerts"].as_array().unwrap();
        let mut found: Vec<_> = rows.iter().map(|row| (text(row, "level"), text(row, "message"))).collect();
        let mut expected: Vec<_> = expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let levels = |rows: &[(String, String)]| rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
        assert_eq!(levels(&found), levels(&expected), "{profile:?}");
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{profile:?}");
        for row in rows {
            let (klass, message) = (text(row, "klass"), text(row, "message"));
            let at = nas.lab.world(|world| world.alerts.iter().find(|alert| alert.klass == klass).unwrap().datetime);
            assert_eq!((text(row, "datetime"), text(row, "last_occurrence")), (time(at / 1000), time(at / 1000)));
            assert_eq!((&row["node"], row.get("dismissed")), (&json!("Controller A"), None), "{message}");
        }
        has(&told["untrusted"].to_string(), &["alerts[].message"]);

        let all = core.ok(ALERTS, json!({"include_dismissed": true}));
        let dismissed: Vec<_> =
            all["alerts"].as_array().unwrap().iter().filter(|row| row["dismissed"] == true).collect();
        assert_eq!((dismissed.len(), &dismissed[0]["klass"]), (1, &json!("ScrubFinished")));
        assert_eq!(all["total"].as_u64().unwrap(), told["total"].as_u64().unwrap() + 1);
        let worse = core.ok(ALERTS, json!({"level": "CRITICAL"}));
        assert_eq!(worse["total"], 3);
        core.error(ALERTS, json!({"level": "critical?"}));
        core.finish();
    }
}

/// The row of the list that this dataset must have.
fn row(profile: Profile, dataset: &Dataset) -> Value {
    let locked = matches!(dataset.encryption, Encryption::Locked(_));
    let encrypted = dataset.encryption != Encryption::None;
    let mut row = json!({"name": dataset.id, "pool": dataset.pool()});
    let volume = match dataset.kind {
        Kind::Filesystem => None,
        Kind::Volume(size) => Some(size),
    };
    row["type"] = json!(if volume.is_some() { "volume" } else { "filesystem" });
    if !locked || profile > Profile::V25_04 {
        row["used_bytes"] = json!(dataset.used);
    }
    if !locked {
        row["available_bytes"] = json!(dataset.available);
    }
    let mounted = volume.is_none() && !locked;
    row["mountpoint"] = if mounted { json!(format!("/mnt/{}", dataset.id)) } else { json!("none") };
    row["encrypted"] = json!(encrypted);
    if encrypted {
        row["locked"] = json!(locked);
    }
    if let Some(quota) = dataset.quota {
        row["quota_bytes"] = json!(quota);
    }
    if let Some(quota) = dataset.refquota {
        row["refquota_bytes"] = json!(quota);
    }
    if let Some(size) = volume {
        row["volsize_bytes"] = json!(size);
    }
    row
}

/// What the list must be, by name.
fn datasets(nas: &Machine<TrueNas>) -> Vec<Value> {
    let mut all = nas.lab.world(|world| world.datasets.clone());
    all.retain(|dataset| !dataset.internal());
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all.iter().map(|dataset| row(nas.lab.profile(), dataset)).collect()
}

/// Without the sizes in words, which are looked at on their own.
fn plain(rows: &Value) -> Vec<Value> {
    let mut rows = rows.as_array().unwrap().clone();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        assert_eq!(row.remove("used").is_some(), row.contains_key("used_bytes"));
        assert_eq!(row.remove("available").is_some(), row.contains_key("available_bytes"));
    }
    rows
}

#[test]
fn every_release_lists_its_datasets() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let all = core.ok(DATASETS, json!({}));
        let expected = datasets(&nas);
        assert_eq!(plain(&all["datasets"]), expected, "{profile:?}");
        assert_eq!((&all["total"], all.get("next_cursor")), (&json!(expected.len()), None));
        let media = all["datasets"].as_array().unwrap().iter().find(|row| row["name"] == "tank/media").unwrap();
        assert_eq!((&media["used"], &media["available"]), (&json!("2.25 TiB"), &json!("772 GiB")));

        let of = |pool: &str| expected.iter().filter(|row| row["pool"] == pool).cloned().collect::<Vec<_>>();
        assert_eq!(plain(&core.ok(DATASETS, json!({"pool": "tank"}))["datasets"]), of("tank"), "{profile:?}");
        assert_eq!(core.ok(DATASETS, json!({"pool": "nowhere"}))["datasets"], json!([]));
        let volumes = core.ok(DATASETS, json!({"type": "volume"}));
        assert_eq!((&volumes["total"], &volumes["datasets"][0]["name"]), (&json!(1), &json!("tank/vm-disk")));
        let named = core.ok(DATASETS, json!({"name": "Media", "limit": 1}));
        assert_eq!((&named["total"], &named["returned"]), (&json!(2), &json!(1)));
        core.finish();
    }
}

#[test]
fn every_release_shows_a_dataset() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let told = core.ok(DATASET, json!({"dataset": "tank/media"}));
        let used = 2300 * GIB;
        let expected = json!({
            "name": "tank/media", "pool": "tank", "type": "filesystem", "used": "2.25 TiB", "available": "772 GiB",
            "used_bytes": used, "available_bytes": 772 * GIB, "mountpoint": "/mnt/tank/media", "encrypted": false,
            "quota_bytes": 3 * TIB, "compression": "LZ4", "compress_ratio": 1.13, "snapshots": 3,
            "used_by_snapshots_bytes": used - used / 10 * 9, "children": 1, "readonly": false,
            "created": time(1_741_000_000), "comments": "films & <b>series</b>", "untrusted": ["comments"],
        });
        assert_eq!(told, expected, "{profile:?}");

        let vault = core.ok(DATASET, json!({"dataset": "tank/vault"}));
        assert_eq!((&vault["locked"], &vault["encryption_root"]), (&json!(true), &json!("tank/vault")));
        assert_eq!((&vault["mountpoint"], vault.get("available")), (&json!("none"), None), "{profile:?}: {vault}");
        let papers = core.ok(DATASET, json!({"dataset": "tank/papers"}));
        assert_eq!((&papers["locked"], &papers["compression"]), (&json!(false), &json!("ZSTD")));
        let disk = core.ok(DATASET, json!({"dataset": "tank/vm-disk"}));
        assert_eq!((&disk["volsize_bytes"], &disk["mountpoint"]), (&json!(64 * GIB), &json!("none")));
        let old = core.ok(DATASET, json!({"dataset": "attic/old"}));
        assert_eq!((&old["readonly"], &old["snapshots"], &old["children"]), (&json!(true), &json!(0), &json!(0)));
        let spaced = core.ok(DATASET, json!({"dataset": "tank/laptop backup"}));
        assert_eq!(spaced["used"], "12 GiB");
        core.finish();
    }
}

#[test]
fn every_release_lists_snapshots() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).and("CAPABILITY_LEVEL", "1").core();
        let told = core.ok(SNAPSHOTS, json!({"dataset": "tank/media"}));
        let created = |name: &str| {
            nas.lab.world(|world| world.snapshots.iter().find(|snapshot| snapshot.name == name).unwrap().creation)
        };
        let row = |name: &str| {
            json!({"name": name, "created": time(created(name)), "used": "96 KiB", "used_bytes": 98_304,
                "referenced": "17 GiB", "referenced_bytes": 17 * GIB})
        };
        let expected =
            json!([row("auto-2026-11-22_00-00"), row("auto-2026-11-21_00-00"), row("auto-2026-11-20_00-00"),]);
        assert_eq!((&told["snapshots"], &told["dataset"]), (&expected, &json!("tank/media")), "{profile:?}");
        let some = core.ok(SNAPSHOTS, json!({"dataset": "tank/media", "name": "11-21"}));
        assert_eq!((&some["total"], &some["snapshots"][0]), (&json!(1), &row("auto-2026-11-21_00-00")));
        let none = core.ok(SNAPSHOTS, json!({"dataset": "tank/papers"}));
        assert_eq!((&none["total"], &none["snapshots"]), (&json!(0), &json!([])));
        // Without the `dataset` filter it would walk every snapshot.
        for method in ["pool.snapshot.query", "zfs.snapshot.query"] {
            for params in nas.lab.calls(method) {
                assert_eq!(params[0][0][0], "dataset", "{params:?}");
            }
        }
        core.finish();
    }
}

#[test]
fn every_release_takes_snapshots() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let before = snapshots(&nas).len();
        let planned =
            core.ok(CREATE, json!({"dataset": "tank/media", "name": "now", "recursive": true, "dry_run": true}));
        assert_eq!(planned["outcome"], "planned");
        has(&planned.to_string(), &["now", "1 dataset", "tank/media/films", "Nothing was done"]);
        assert_eq!((snapshots(&nas).len(), asked_to_create(&nas)), (before, 0));

        let done = core.ok(CREATE, json!({"dataset": "tank/media", "name": "now"}));
        assert_eq!((&done["outcome"], &done["success"]), (&json!("changed"), &json!(true)), "{profile:?}: {done}");
        assert_eq!((&done["snapshot"], done.get("datasets")), (&json!("tank/media@now"), None));
        let creation = nas.lab.world(|world| world.snapshots.last().unwrap().creation);
        assert_eq!(done["created"], time(creation));
        assert_eq!(done["target"]["id"], "tank/media");
        assert_eq!(snapshots(&nas)[before..], ["tank/media@now"]);
        assert_eq!(
            (
                nas.lab.calls(&creating(&nas)).len(),
                core.ok(SNAPSHOTS, json!({"dataset": "tank/media"}))["total"].clone()
            ),
            (1, json!(4))
        );

        let done = core.ok(CREATE, json!({"dataset": "tank/media", "name": "both", "recursive": true}));
        assert_eq!((&done["outcome"], &done["datasets"]), (&json!("changed"), &json!(2)));
        has(message(&done), &["2 datasets"]);
        assert_eq!(snapshots(&nas)[before + 1..], ["tank/media@both", "tank/media/films@both"]);

        let done = core.ok(CREATE, json!({"dataset": "tank/laptop backup"}));
        let id = done["snapshot"].as_str().unwrap();
        let ms: i64 = id.strip_prefix("tank/laptop backup@snapshot-").unwrap().parse().unwrap();
        assert!((Timestamp::now().as_millisecond() - ms).abs() < 60_000, "{id}");
        assert_eq!(snapshots(&nas).last().unwrap(), id);

        // Only what the release documents is sent, and to the method that it has.
        let sent = nas.lab.calls(&creating(&nas));
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[1], [json!({"dataset": "tank/media", "name": "both", "recursive": true})]);
        core.finish();
    }
}

#[test]
fn a_snapshot_that_exists_is_told_in_every_shape() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let told = refused(&mut core, json!({"dataset": "tank", "name": "manual"}));
        assert_eq!(told["outcome"], "failed");
        has(message(&told), &["there is a snapshot tank@manual already", "another name"]);
        assert_eq!(asked_to_create(&nas), 0);

        // Somebody else was faster: the appliance says so.
        let error = if profile >= Profile::V26 {
            let attribute = Some("pool.snapshot.create".to_owned());
            RpcError::Refused {
                class: "ValidationError",
                issue: Issue { attribute, message: "now already exists.".to_owned(), errno: 17 },
            }
        } else {
            let message = "Failed to snapshot tank@now: dataset already exists".to_owned();
            RpcError::Call { class: "CallError", errno: 17, message }
        };
        nas.lab.fail(&creating(&nas), error);
        let told = refused(&mut core, json!({"dataset": "tank", "name": "now"}));
        assert_eq!(told["outcome"], "failed");
        has(message(&told), &["there is a snapshot tank@now already", "Nothing was done"]);
        assert_eq!(nas.lab.calls(&creating(&nas)).len(), 1);

        // The number counts, not the words.
        let issue = Issue { attribute: Some("name".to_owned()), message: "That is taken.".to_owned(), errno: 17 };
        nas.lab.fail(&creating(&nas), RpcError::Refused { class: "ValidationError", issue });
        let told = refused(&mut core, json!({"dataset": "tank", "name": "now"}));
        has(message(&told), &["there is a snapshot tank@now already"]);
        core.finish();
    }
}

#[test]
fn bad_names_are_refused_before_anything_is_sent() {
    for profile in [Profile::Core13, Profile::V25_10, Profile::V26] {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        core.ok(ALERTS, json!({}));
        let (requests, calls) = (nas.requests(), nas.lab.all_calls().len());
        let long = "x".repeat(260);
        for dataset in [
            "",
            "/mnt/tank",
            "tank/",
            "tank//a",
            "tank/../x",
            "tank@a",
            "tank/a%2fb",
            "tank/a?b",
            "täñk",
            "tank/a\nb",
            &long,
        ] {
            has(&core.error(DATASET, json!({"dataset": dataset})), &["could not show dataset"]);
            core.error(SNAPSHOTS, json!({"dataset": dataset}));
            let told = refused(&mut core, json!({"dataset": dataset, "name": "ok"}));
            assert_eq!(told["outcome"], "failed");
        }
        for name in ["", "a@b", "a/b", "a%b", "näm", "a\tb", "a#b", &long] {
            let told = refused(&mut core, json!({"dataset": "tank/media", "name": name}));
            has(message(&told), &["could not create snapshot"]);
            assert!(message(&told).chars().count() < 1000, "{told}");
        }
        core.error(DATASETS, json!({"pool": "tank/../x"}));
        // Both fit, and together they are too long.
        let told = refused(&mut core, json!({"dataset": "tank/media", "name": "x".repeat(245)}));
        has(message(&told), &["255"]);
        assert_eq!((nas.requests(), nas.lab.all_calls().len()), (requests, calls));

        // Too long only for one within.
        let told = refused(&mut core, json!({"dataset": "tank/media", "name": "x".repeat(240), "recursive": true}));
        has(message(&told), &["tank/media/films", "255"]);
        assert_eq!(asked_to_create(&nas), 0);
        core.finish();
    }
}

#[test]
fn what_is_not_there_is_said() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        for told in [
            core.error(DATASET, json!({"dataset": "tank/gone"})),
            core.error(SNAPSHOTS, json!({"dataset": "tank/gone"})),
            message(&refused(&mut core, json!({"dataset": "tank/gone"}))).to_owned(),
            // In a pool that is exported, and in one that there is not.
            core.error(DATASET, json!({"dataset": "shelf/a"})),
            core.error(DATASET, json!({"dataset": "nowhere"})),
        ] {
            has(&told, &["there is no dataset", "truenas_list_datasets"]);
        }
        // Gone between the look and the deed: in the words of the release.
        let (error, words) = if profile >= Profile::V26 {
            let message = "'tank/media' not found".to_owned();
            (RpcError::Exception { class: "ZFSPathNotFoundException", message }, "'tank/media' not found")
        } else {
            let message = "Failed to snapshot tank/media@now: Dataset tank/media not found".to_owned();
            (RpcError::Call { class: "CallError", errno: 14, message }, "Dataset tank/media not found")
        };
        nas.lab.fail(&creating(&nas), error);
        let told = refused(&mut core, json!({"dataset": "tank/media", "name": "now"}));
        assert_eq!(told["outcome"], "failed");
        has(message(&told), &[words]);
        assert_eq!(asked_to_create(&nas), 1);
        core.finish();
    }
}

#[test]
fn its_errors_are_told_without_its_traceback() {
    let call = |errno: i32, message: &str| RpcError::Call { class: "CallError", errno, message: message.to_owned() };
    let issue = |attribute: &str, message: &str, errno: i32| Issue {
        attribute: Some(attribute.to_owned()),
        message: message.to_owned(),
        errno,
    };
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        let both = RpcError::Invalid(vec![
            issue("data.PoolSnapshotCreateWithName.name", "Invalid snapshot name", 22),
            issue("data.PoolSnapshotCreateWithSchema.naming_schema", "Field required", 22),
        ]);
        for (error, words) in [
            (call(14, "the pool is <b>suspended</b> & lost"), "the pool is suspended & lost"),
            (call(16, "pool is busy"), "pool is busy"),
            (
                RpcError::Refused {
                    class: "ValidationError",
                    issue: issue("x.dataset", "tank is a protected path.", 13),
                },
                "tank is a protected path.",
            ),
            (both, "Invalid snapshot name"),
            (RpcError::Exception { class: "KeyError", message: "boom".to_owned() }, "boom"),
            (call(14, &"long ".repeat(1000)), "long long"),
        ] {
            nas.lab.fail(&creating(&nas), error);
            let told = refused(&mut core, json!({"dataset": "tank/media", "name": "now"}));
            assert_eq!(told["outcome"], "failed", "{profile:?}: {told}");
            let text = message(&told);
            has(text, &["could not create snapshot `tank/media@now`", words]);
            assert!(text.chars().count() < 700, "{text}");
            for dump in ["Traceback", "middlewared", "/usr/lib", "[E", "Field required", "frames", "PoolSnapshotCreate"]
            {
                assert!(!text.contains(dump), "{profile:?}: {dump}: {text}");
            }
        }
        nas.lab.fail("boot.get_state", call(14, "no boot pool"));
        nas.lab.fail("pool.dataset.query", call(14, "no space"));
        let status = core.ok(STATUS, json!({}));
        has(&status["problems"].to_string(), &["boot pool: ", "no boot pool", "usable space: ", "no space"]);
        let tank = &status["pools"][3];
        assert_eq!((&tank["name"], &tank["raw"], &tank["used_bytes"]), (&json!("tank"), &json!(true), &json!(5 * TIB)));
        assert_eq!(status["version"], profile.info_version());
        core.finish();
    }
}

#[test]
fn the_key_is_in_no_output_whatever_goes_wrong() {
    for profile in PROFILES {
        let nas = nas(profile);
        let key = nas.lab.key("svc");
        for user in [None, Some("svc")] {
            let mut env = env(&nas).and("RUST_LOG", "trace");
            if let Some(user) = user {
                env = env.and("TRUENAS_USERNAME", user);
            }
            let state = tempfile::tempdir().unwrap();
            let mut core = env.and("STATE_DIR", state.path().to_str().unwrap()).core();
            let error = || RpcError::Exception { class: "RuntimeError", message: "boom".to_owned() };
            for method in ["alert.list", "system.info", "pool.query", "boot.get_state", "pool.dataset.query"] {
                nas.lab.fail(method, error());
            }
            has(&core.error(ALERTS, json!({})), &["boom"]);
            core.error(STATUS, json!({}));
            core.error(DATASETS, json!({}));
            nas.lab.well_again();
            nas.lab.fail(&creating(&nas), error());
            refused(&mut core, json!({"dataset": "tank", "name": "now"}));
            nas.lab.well_again();
            restart(&nas, Duration::ZERO);
            core.ok(STATUS, json!({}));
            core.close();
            assert!(core.end().success());
            // Nor anything else of what the traceback holds, which may be cut before it comes to the key.
            for word in [&key[2..], "authenticated_credentials", "process_method_call", "middlewared"] {
                assert!(!core.transcript().contains(word), "{profile:?}: {word}");
            }
            for entry in std::fs::read_dir(state.path()).unwrap().flatten() {
                let text = std::fs::read(entry.path()).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains(&key[2..]), "{}", entry.path().display());
            }
        }
    }
}

#[test]
fn many_calls_share_one_connection_and_one_login() {
    for profile in [Profile::V25_04, Profile::V26, Profile::V27] {
        let nas = nas(profile);
        nas.lab.slow("alert.list", Duration::from_millis(150));
        let mut core = env(&nas).core();
        // Every one is a call, and more than a connection takes: 20.
        let begun: Vec<_> = (0..32).map(|_| core.begin(ALERTS, json!({}))).collect();
        for id in begun {
            let answer = core.answer(id);
            assert_ne!(answer["result"]["isError"], true, "{profile:?}: {answer}");
        }
        for _ in 0..3 {
            core.ok(STATUS, json!({}));
        }
        core.finish();
        assert_eq!((nas.lab.sessions_opened(), logins(&nas), nas.lab.logins()), (1, 1, 1), "{profile:?}");
        assert_eq!(nas.seen("GET", "/api/versions").len(), 1);
        assert_eq!(nas.lab.calls("alert.list").len(), 32);
        // It goes when the core goes.
        until("the connection is closed", || nas.lab.sessions() == 0);
    }
}

#[test]
fn the_limit_on_logins_is_kept() {
    for profile in rpc() {
        let nas = nas(profile);
        nas.lab.rate_limit(0, Duration::from_secs(60), Duration::ZERO);
        let mut core = env(&nas).core();
        for _ in 0..3 {
            has(&core.error(ALERTS, json!({})), &["too many logins", "minute"]);
        }
        assert_eq!(logins(&nas), 1, "{profile:?}: once it said so nothing is tried for a minute");
        core.finish();
    }
    // A key that is refused is not tried with every call either.
    let nas = nas(Profile::V25_10);
    nas.lab.revoke(&nas.lab.key("svc"));
    let mut core = env(&nas).core();
    for _ in 0..5 {
        core.error(STATUS, json!({}));
    }
    assert_eq!(logins(&nas), 1);
    core.finish();
    // Connections that are cut again and again do not use up the twenty of a minute.
    let nas = self::nas(Profile::V26);
    let mut core = env(&nas).core();
    for _ in 0..10 {
        core.call(ALERTS, json!({}));
        restart(&nas, Duration::ZERO);
    }
    assert!(logins(&nas) < 10, "{}", logins(&nas));
    core.finish();
}

#[test]
fn each_answer_to_a_login_is_told() {
    for profile in rpc() {
        let ask = |nas: &Machine<TrueNas>, user: &str, key: &str| {
            let mut core = nas.env("TRUENAS").and("TRUENAS_API_KEY", key).and("TRUENAS_USERNAME", user).core();
            let result = core.call(ALERTS, json!({}));
            assert!(!core.transcript().contains(&key[2..]), "{profile:?}");
            core.finish();
            assert_eq!(nas.lab.calls("auth.login_with_api_key").len(), 0);
            result["content"][0]["text"].as_str().unwrap().to_owned()
        };
        let nas = nas(profile);
        let (svc, viewer, nobody) = (nas.lab.key("svc"), nas.lab.key("viewer"), nas.lab.key("nobody"));
        has(&ask(&nas, "svc", &svc), &["EMERGENCY"]);
        has(&ask(&nas, "viewer", &svc), &["AUTH_ERR", "TRUENAS_USERNAME", "TRUENAS_API_KEY"]);
        has(&ask(&nas, "svc", &format!("1-{}", "z".repeat(64))), &["AUTH_ERR", "TRUENAS_API_KEY"]);
        let powerless = ask(&nas, "nobody", &nobody);
        has(&powerless, if profile >= Profile::V26 { &["DENIED", "privilege"] } else { &["AUTH_ERR", "privilege"] });
        nas.lab.expire(&viewer);
        has(&ask(&nas, "viewer", &viewer), &["EXPIRED", "Renew"]);
        for (answer, parts) in [
            (json!({"response_type": "OTP_REQUIRED", "username": "svc"}), &["one-time password"][..]),
            (json!({"response_type": "SCRAM_RESPONSE", "scram_type": "x"}), &["SCRAM_RESPONSE", "not known"]),
            (json!({"response_type": "SOMETHING_NEW"}), &["SOMETHING_NEW", "not known"]),
        ] {
            nas.lab.answer_login_ex(answer);
            has(&ask(&nas, "svc", &svc), parts);
        }
        nas.lab.standby(&["https://192.0.2.7"]);
        has(&ask(&nas, "svc", &svc), &["standby", "192.0.2.7", "TRUENAS_HOST"]);

        let strict = self::nas(profile);
        strict.lab.forbid_plain_keys();
        has(&ask(&strict, "svc", &strict.lab.key("svc")), &["security level"]);
    }
}

#[test]
fn a_key_without_a_user_is_told_what_helps() {
    for profile in rpc() {
        let nas = nas(profile);
        let key = nas.lab.key("svc");
        let ask = |key: &str| {
            let mut core = nas.env("TRUENAS").and("TRUENAS_API_KEY", key).core();
            let text = core.call(ALERTS, json!({}))["content"][0]["text"].as_str().unwrap().to_owned();
            core.finish();
            text
        };
        if profile >= Profile::V27 {
            has(&ask(&key), &["user's name", "TRUENAS_USERNAME"]);
            continue;
        }
        has(&ask(&key), &["EMERGENCY"]);
        for bad in [format!("1-{}", "z".repeat(64)), nas.lab.key("nobody")] {
            has(&ask(&bad), &["refused the API key", "TRUENAS_API_KEY", "TRUENAS_USERNAME"]);
        }
        nas.lab.forbid_plain_keys();
        has(&ask(&key), &["refused the API key"]);
    }
}

#[test]
fn a_key_that_rest_refuses_is_told() {
    for profile in PROFILES.into_iter().filter(|profile| !profile.has_jsonrpc()) {
        let nas = nas(profile);
        let expired = nas.lab.key("viewer");
        nas.lab.expire(&expired);
        for bad in [format!("1-{}", "z".repeat(64)), format!("99-{}", "z".repeat(64)), "no-number".to_owned(), expired]
        {
            let mut core = nas.env("TRUENAS").and("TRUENAS_API_KEY", &bad).core();
            for tool in [ALERTS, STATUS, DATASETS] {
                has(&core.error(tool, json!({})), &["TRUENAS_API_KEY"]);
            }
            assert!(!core.transcript().contains(&bad[3..]));
            core.finish();
        }
    }
}

#[test]
fn a_missing_role_is_named() {
    for profile in PROFILES {
        let nas = nas(profile);
        let mut core = env_as(&nas, "viewer").core();
        core.ok(STATUS, json!({}));
        core.ok(SNAPSHOTS, json!({"dataset": "tank/media"}));
        let told = refused(&mut core, json!({"dataset": "tank", "name": "now"}));
        has(message(&told), &["SNAPSHOT_WRITE", &creating(&nas)]);
        core.finish();
        assert!(!snapshots(&nas).contains(&"tank@now".to_owned()));

        nas.lab.add_user("pools", &["POOL_READ"]);
        let mut core = env_as(&nas, "pools").core();
        let status = core.ok(STATUS, json!({}));
        has(&status["problems"].to_string(), &["READONLY_ADMIN", "DATASET_READ"]);
        assert_eq!((status.get("version"), &status["pools"][3]["raw"]), (None, &json!(true)));
        has(&core.error(ALERTS, json!({})), &["ALERT_LIST_READ"]);
        has(&core.error(DATASETS, json!({})), &["DATASET_READ"]);
        has(&core.error(SNAPSHOTS, json!({"dataset": "tank"})), &["SNAPSHOT_READ"]);
        core.finish();

        let check = |user: &str, level: &str| {
            let ran = env_as(&nas, user).and("TOOLSETS", "truenas").and("CAPABILITY_LEVEL", level).check();
            assert!(ran.stdout.contains(profile.info_version()) || user == "pools", "{}", ran.stdout);
            (ran.code, ran.stdout)
        };
        assert_eq!(check("svc", "4").0, Some(0));
        if profile.has_jsonrpc() {
            assert_eq!(check("viewer", "3").0, Some(0));
            let (code, text) = check("viewer", "4");
            assert_eq!(code, Some(1));
            has(&text, &["FIX", "truenas_create_snapshot needs SNAPSHOT_WRITE"]);
            let (code, text) = check("pools", "1");
            assert_eq!(code, Some(1));
            has(&text, &["truenas_alerts needs ALERT_LIST_READ", "truenas_status needs READONLY_ADMIN"]);
        }
    }
}

#[test]
fn the_key_goes_nowhere_else() {
    // Not over plain text: neither by configuration nor where no TLS is spoken.
    let key = TrueNas::new(Profile::V26).key("svc");
    let plain = TrueNas::new(Profile::V26);
    let server = Server::start(plain.clone(), Options { plain: true, ..Options::default() }).unwrap();
    let url = format!("http://{}", server.host());
    let ran = run(&[], &[("TRUENAS_HOST", &url), ("TRUENAS_API_KEY", &key)], b"");
    assert_eq!(ran.code, Some(64));
    has(&ran.stderr, &["TRUENAS_HOST", "http://"]);
    let mut core = Env::default().and("TRUENAS_HOST", &server.host()).and("TRUENAS_API_KEY", &key).core();
    has(&core.error(STATUS, json!({})), &["TLS"]);
    core.finish();
    assert!(server.seen().is_empty() && plain.all_calls().is_empty() && !plain.is_revoked(&key));

    // Not to a certificate that nobody vouched for; the error says how to.
    let unknown = nas(Profile::V26);
    let own = Env::default().and("TRUENAS_HOST", &unknown.server.host()).and("TRUENAS_API_KEY", &key);
    let mut core = own.core();
    let told = core.error(STATUS, json!({}));
    has(&told, &[&format!("TRUENAS_TLS_FINGERPRINT={}", unknown.server.fingerprint())]);
    core.finish();
    assert!(unknown.requests() == 0 && unknown.lab.all_calls().is_empty());
    let mut core = own.and("TRUENAS_TLS_VERIFY", "false").core();
    core.ok(STATUS, json!({}));
    has(&core.log(), &["TRUENAS"]);
    core.finish();

    // Not to where somebody redirects.
    let elsewhere = nas(Profile::V26);
    let to = format!("https://{}", elsewhere.server.host());
    let redirecting = |path: &'static str, versions: Reply| {
        let to = to.clone();
        Machine::start(Arc::new(Always(move |request: &Request| match request.path() {
            at if at.starts_with(path) => Reply::empty(307).header("Location", &format!("{to}{at}")),
            "/api/versions" => versions.clone(),
            _ => Reply::empty(404),
        })))
    };
    let list = || Reply::json(200, &json!(["v25.10.0", "v26.0.0"]));
    for (path, versions) in [("/api/versions", list()), ("/api/current", list()), ("/api/v2.0", Reply::empty(404))] {
        let door = redirecting(path, versions);
        let mut core = door.env("TRUENAS").and("TRUENAS_API_KEY", &key).core();
        has(&core.error(ALERTS, json!({})), &["redirect", "TRUENAS_HOST"]);
        core.finish();
        assert_eq!(elsewhere.requests(), 0, "{path}");
        let carried = door.server.seen().iter().filter(|seen| seen.header("authorization").is_some()).count();
        assert_eq!(carried > 0, path == "/api/v2.0");
    }
}

#[test]
fn an_address_that_is_not_allowed_is_told() {
    for profile in PROFILES {
        let nas = nas(profile);
        nas.lab.deny_address(true);
        let mut core = env(&nas).core();
        has(&core.error(ALERTS, json!({})), &["Allowed IP Addresses"]);
        nas.lab.deny_address(false);
        core.ok(ALERTS, json!({}));
        core.finish();
    }
}

#[test]
fn noise_and_size_do_not_matter() {
    for profile in [Profile::V25_04, Profile::V25_10, Profile::V27] {
        let nas = nas(profile);
        nas.lab.noise(true);
        let mut core = env(&nas).core();
        core.ok(STATUS, json!({}));
        nas.lab.push("collection_update", json!({"msg": "added", "collection": "alert.list", "id": 1, "fields": null}));
        nas.lab.push("notify_unsubscribed", json!({"collection": "*", "error": {"code": -1}}));
        core.ok(CREATE, json!({"dataset": "tank", "name": "noise"}));
        assert_eq!(core.ok(SNAPSHOTS, json!({"dataset": "tank"}))["total"], 2);
        core.finish();
        assert_eq!(nas.lab.sessions_opened(), 1);
    }
    // One answer in one frame, larger than what libraries take for the largest.
    let nas = nas(Profile::V26);
    let text = "too much ".repeat(200_000);
    nas.lab.world(|world| {
        world.alerts.extend((200..210).map(|number| Alert::new(number, "Long", "INFO", &text, 1_700_000_000_000)));
    });
    let mut core = env(&nas).core();
    let told = core.ok(ALERTS, json!({}));
    assert_eq!(told["total"], 18);
    let long = told["alerts"].as_array().unwrap().last().unwrap();
    assert!(long["message"].as_str().unwrap().chars().count() < 2000, "{long}");
    core.finish();
}

#[test]
fn two_thousand_datasets_are_one_request_and_fit() {
    for profile in [Profile::Core13, Profile::V26] {
        let nas = nas(profile);
        nas.lab.world(|world| world.add_datasets("tank/media", 2000));
        let expected = datasets(&nas);
        let mut core = env(&nas).and("MAX_RESULT_CHARS", "300000").core();
        let (mut rows, mut cursor, mut looks) = (Vec::new(), Value::Null, 0);
        while looks == 0 || !cursor.is_null() {
            let before = nas.lab.calls("pool.dataset.query").len();
            let page = core.ok(DATASETS, if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) });
            assert_eq!(nas.lab.calls("pool.dataset.query").len(), before + 1);
            assert!(page.to_string().chars().count() <= 300_000);
            assert_eq!(page["total"], expected.len());
            rows.extend(plain(&page["datasets"]));
            cursor = page["next_cursor"].clone();
            looks += 1;
            assert!(looks < 60, "{} rows", rows.len());
        }
        assert!(looks > 1 && rows == expected, "{profile:?}: {} of {}", rows.len(), expected.len());
        // No row of the answer repeats another: the answer would be quadratic.
        for params in nas.lab.calls("pool.dataset.query") {
            let extra = &params[1]["extra"];
            assert!(extra["flat"] == false || extra["retrieve_children"] == false, "{extra}");
        }
        if !profile.has_jsonrpc() {
            core.finish();
            continue;
        }
        let told = core.ok(DATASET, json!({"dataset": "tank/media"}));
        assert_eq!(told["children"], 2001);
        let done = core.ok(CREATE, json!({"dataset": "tank/media", "name": "all", "recursive": true}));
        assert_eq!((&done["datasets"], asked_to_create(&nas)), (&json!(2002), 1));
        core.finish();
    }
}

#[test]
fn a_restart_of_the_middleware_costs_one_call_at_most() {
    for profile in rpc() {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        core.ok(ALERTS, json!({}));
        // Between two calls: nothing is noticed.
        restart(&nas, Duration::ZERO);
        core.ok(ALERTS, json!({}));
        // In the middle of one: what only reads is asked again.
        nas.lab.silent("alert.list");
        let before = nas.lab.calls("alert.list").len();
        let id = core.begin(ALERTS, json!({}));
        until("the call arrives", || nas.lab.calls("alert.list").len() > before);
        nas.lab.well_again();
        restart(&nas, Duration::ZERO);
        let answer = core.answer(id);
        assert_ne!(answer["result"]["isError"], true, "{profile:?}: {answer}");
        assert_eq!(nas.lab.calls("alert.list").len(), before + 2);
        assert_eq!((nas.lab.sessions_opened(), logins(&nas)), (3, 3));
        core.finish();
    }
    for profile in [Profile::Core13, Profile::V24_10, Profile::V25_10, Profile::V26] {
        // Away for longer: said so, and well again when it is.
        let nas = nas(profile);
        let mut core = env(&nas).core();
        core.ok(ALERTS, json!({}));
        restart(&nas, Duration::from_secs(600));
        has(&core.error(ALERTS, json!({})), &["502", "starting"]);
        has(&core.error(STATUS, json!({})), &["502", "starting"]);
        restart(&nas, Duration::ZERO);
        core.ok(ALERTS, json!({}));
        nas.server.pause_listener();
        has(&core.error(ALERTS, json!({})), &["cannot be reached"]);
        nas.server.resume().unwrap();
        core.ok(ALERTS, json!({}));
        core.finish();
    }
}

#[test]
fn silence_costs_the_time_out_and_the_others_nothing() {
    let lone = |profile| {
        let nas = nas(profile);
        let core = env(&nas).and("TRUENAS_TIMEOUT", "1").core();
        (nas, core)
    };
    for profile in [Profile::Core13, Profile::V26] {
        let (nas, mut core) = lone(profile);
        core.ok(STATUS, json!({}));
        nas.lab.silent("alert.list");
        nas.lab.silent("boot.get_state");
        let clock = Instant::now();
        has(&core.error(ALERTS, json!({})), &["could not list alerts", "within 1 s"]);
        let status = core.ok(STATUS, json!({}));
        has(&status["problems"].to_string(), &["boot pool: ", "within 1 s"]);
        assert_eq!(
            (status["pools"].as_array().unwrap().len(), &status["version"]),
            (4, &json!(profile.info_version()))
        );
        core.ok(DATASETS, json!({}));
        assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
        if profile.has_jsonrpc() {
            assert_eq!(nas.lab.sessions_opened(), 1, "the connection is well, the method is not");
        }
        core.finish();
    }
    // More than the connection's twenty are never answered. Whatever becomes of it, it must not stay so.
    let (nas, mut core) = lone(Profile::V26);
    nas.lab.silent("alert.list");
    for _ in 0..3 {
        let begun: Vec<_> = (0..10).map(|_| core.begin(ALERTS, json!({}))).collect();
        for id in begun {
            assert_eq!(core.answer(id)["result"]["isError"], true);
        }
    }
    nas.lab.well_again();
    let clock = Instant::now();
    while core.call(ALERTS, json!({}))["isError"] == true {
        assert!(clock.elapsed() < Duration::from_secs(8), "{}", core.transcript());
    }
    core.finish();
    // The login is never answered, or the handshake, or which API it has.
    let [(login, login_core), (handshake, handshake_core), (versions, versions_core)] = [Profile::V26; 3].map(lone);
    login.lab.silent("auth.login_with_api_key");
    handshake.server.fault(Rule::new("/api/current", Fault::Hang));
    versions.server.fault(Rule::new("/api/versions", Fault::Hang));
    let clock = Instant::now();
    let begun = [(login_core, "login"), (handshake_core, "handshake"), (versions_core, "did not answer")].map(
        |(mut core, words)| {
            let id = core.begin(ALERTS, json!({}));
            (core, id, words)
        },
    );
    for (mut core, id, words) in begun {
        let answer = core.answer(id)["result"].clone();
        assert_eq!(answer["isError"], true, "{answer}");
        has(answer["content"][0]["text"].as_str().unwrap(), &["1 s", words]);
        core.finish();
    }
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
}

#[test]
fn a_snapshot_whose_answer_is_lost_is_looked_for_and_not_asked_for_twice() {
    let wanted = json!({"dataset": "tank/media", "name": "now"});
    for profile in rpc() {
        // Done, and the connection drops before the answer.
        let nas = nas(profile);
        let mut core = env(&nas).core();
        nas.lab.silent(&creating(&nas));
        let id = core.begin(CREATE, wanted.clone());
        until("the call arrives", || !nas.lab.calls(&creating(&nas)).is_empty());
        restart(&nas, Duration::ZERO);
        let told = core.answer(id)["result"]["structuredContent"].clone();
        assert_eq!(told["outcome"], "changed", "{profile:?}: {told}");
        has(message(&told), &["tank/media@now", "it is there"]);
        assert_eq!(nas.lab.calls(&creating(&nas)).len(), 1);
        assert!(snapshots(&nas).contains(&"tank/media@now".to_owned()));
        core.finish();
    }
    for profile in [Profile::Core13, Profile::V24_10] {
        for fault in [Fault::CutAfter, Fault::CutMiddle, Fault::Truncated] {
            let nas = nas(profile);
            nas.server.fault(Rule::new("/api/v2.0/zfs/snapshot", fault.clone()).method("POST"));
            let mut core = env(&nas).core();
            let told = core.ok(CREATE, wanted.clone());
            assert_eq!(told["outcome"], "changed", "{profile:?} {fault:?}: {told}");
            has(message(&told), &["it is there"]);
            assert_eq!(asked_to_create(&nas), 1);
            core.finish();
        }
    }

    // Not done, or at least not seen; these look for some seconds, so they do it together.
    let mut begun = Vec::new();
    for profile in [Profile::V25_04, Profile::V26] {
        let nas = nas(profile);
        let mut core = env(&nas).core();
        nas.lab.silent(&creating(&nas));
        nas.lab.fail(&creating(&nas), RpcError::Call { class: "CallError", errno: 14, message: "lost".to_owned() });
        let id = core.begin(CREATE, wanted.clone());
        until("the call arrives", || !nas.lab.calls(&creating(&nas)).is_empty());
        restart(&nas, Duration::ZERO);
        begun.push((nas, core, id));
    }
    for fault in [Fault::CutBefore, Fault::HtmlError(504), Fault::NotJson] {
        let nas = nas(Profile::Core13);
        nas.server.fault(Rule::new("/api/v2.0/zfs/snapshot", fault.clone()).method("POST"));
        let mut core = env(&nas).core();
        let id = core.begin(CREATE, wanted.clone());
        begun.push((nas, core, id));
    }
    for (nas, mut core, id) in begun {
        let answer = core.answer(id)["result"].clone();
        let told = &answer["structuredContent"];
        assert_eq!((&told["outcome"], &told["success"]), (&json!("unknown"), &json!(false)), "{told}");
        has(message(told), &["may still come", "truenas_list_snapshots"]);
        let posts = nas.seen("POST", "/api/v2.0/zfs/snapshot").len();
        assert_eq!(if posts > 0 { posts } else { asked_to_create(&nas) }, 1);
        core.finish();
    }
}

#[test]
fn protected_datasets_are_not_snapshotted() {
    let nas = nas(Profile::V26);
    for (protected, arguments) in [
        ("truenas:tank/media", json!({"dataset": "tank/media"})),
        ("truenas:tank", json!({"dataset": "tank/media"})),
        ("truenas:tank/media/films", json!({"dataset": "tank", "recursive": true})),
    ] {
        let mut core = env(&nas).and("PROTECTED", protected).core();
        let told = refused(&mut core, arguments);
        assert_eq!(told["outcome"], "refused");
        has(message(&told), &[protected]);
        core.finish();
    }
    assert_eq!(asked_to_create(&nas), 0);
}

#[test]
fn what_answers_and_is_no_truenas_is_said() {
    for (fault, parts) in [
        (Fault::NotJson, &["TRUENAS_HOST"][..]),
        (Fault::HtmlError(200), &["TRUENAS_HOST"]),
        (Fault::Garbage, &["no HTTP"]),
        (Fault::HtmlError(503), &["503"]),
        (Fault::Status(401), &["401", "proxy"]),
    ] {
        let nas = nas(Profile::V26);
        nas.server.fault(Rule::new("/api/versions", fault.clone()));
        let mut core = env(&nas).core();
        let told = core.error(STATUS, json!({}));
        has(&told, parts);
        assert!(!told.contains("<html") && told.chars().count() < 600, "{told}");
        assert!(nas.lab.all_calls().is_empty());
        nas.server.clear_faults();
        core.ok(STATUS, json!({}));
        core.finish();
    }
    for (fault, parts) in [
        (Fault::HtmlError(502), &["502", "starting"][..]),
        (Fault::HtmlError(200), &["200", "WebSocket"]),
        (Fault::Status(403), &["403", "proxy"]),
        (Fault::Garbage, &["WebSocket"]),
        (Fault::CutBefore, &["WebSocket"]),
    ] {
        let nas = nas(Profile::V26);
        nas.server.fault(Rule::new("/api/current", fault.clone()).times(1));
        let mut core = env(&nas).core();
        let told = core.error(ALERTS, json!({}));
        has(&told, parts);
        assert!(!told.contains("<html") && told.chars().count() < 600, "{told}");
        core.ok(ALERTS, json!({}));
        core.finish();
    }
    for (fault, parts) in [
        (Fault::NotJson, &["not JSON"][..]),
        (Fault::Truncated, &["not JSON"]),
        (Fault::HtmlError(502), &["502"]),
        (Fault::Status(500), &["500"]),
        (Fault::StaleKeepAlive, &[]),
    ] {
        let nas = nas(Profile::V24_10);
        let mut core = env(&nas).core();
        core.ok(STATUS, json!({}));
        nas.server.fault(Rule::new("/api/v2.0/alert/list", fault.clone()));
        let result = core.call(ALERTS, json!({}));
        assert_eq!(result["isError"] == true, fault != Fault::StaleKeepAlive, "{fault:?}: {result}");
        let told = result["content"][0]["text"].as_str().unwrap();
        has(told, parts);
        assert!(!told.contains("<html") && (told.chars().count() < 700 || parts.is_empty()), "{told}");
        core.finish();
    }
}

#[test]
fn without_a_truenas_the_tools_say_what_to_set() {
    let mut core = Env::default().core();
    for (tool, arguments) in [
        (STATUS, json!({})),
        (ALERTS, json!({})),
        (DATASETS, json!({})),
        (DATASET, json!({"dataset": "tank"})),
        (SNAPSHOTS, json!({"dataset": "tank"})),
    ] {
        has(&core.error(tool, arguments), &["TRUENAS_HOST", "TRUENAS_API_KEY"]);
    }
    has(message(&refused(&mut core, json!({"dataset": "tank"}))), &["TRUENAS_HOST"]);
    core.finish();
}
