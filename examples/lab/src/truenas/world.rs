//! What the appliance has: pools, datasets, snapshots, alerts, jobs.

use serde_json::{Value, json};

use super::alert::Alert;
use super::dataset::{Dataset, Encryption, Kind};
use super::pool::{Health, Pool, Scan, Vdev};
use super::profile::Profile;
use super::snapshot::Snapshot;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Everything a test may prepare and look at.
#[derive(Clone, Debug)]
pub struct World {
    /// Data pools.
    pub pools: Vec<Pool>,
    /// The boot pool, which is in no list.
    pub boot: Pool,
    /// All datasets, each after its parent.
    pub datasets: Vec<Dataset>,
    /// All snapshots.
    pub snapshots: Vec<Snapshot>,
    /// All alerts, dismissed ones too.
    pub alerts: Vec<Alert>,
    /// Rows of `core.get_jobs`, as they are.
    pub jobs: Vec<Value>,
    /// Next transaction group.
    pub txg: u64,
}

impl World {
    /// A home server with something of everything: pools healthy, with a warning, degraded under a running resilver,
    /// and exported; datasets with quota, locked, unlocked, a volume; every level of alert.
    #[must_use]
    pub fn sample(profile: Profile) -> Self {
        let day = 86_400_000;
        let now = now_millis();
        let mut tank = Pool::new(
            1,
            "tank",
            12 * TIB,
            5 * TIB,
            vec![Vdev::group("raidz1-0", "RAIDZ1", vec![Vdev::disk("sda"), Vdev::disk("sdb"), Vdev::disk("sdc")])],
        );
        tank.scan = Some(Scan {
            function: "SCRUB",
            state: "FINISHED",
            percentage: 99.998_474,
            start: now - 6 * day,
            end: Some(now - 6 * day + 9_000_000),
            errors: 0,
            seconds_left: None,
        });
        tank.others[1] = vec![Vdev::disk("nvme0n1")];
        tank.others[2] = vec![Vdev { status: "AVAIL", ..Vdev::disk("sdh") }];
        let mut gone = Vdev { status: "REMOVED", disk: None, errors: [3, 12, 0], ..Vdev::disk("sde") };
        gone.name = "/dev/disk/by-partuuid/5f0e".to_owned();
        let worn = Vdev { errors: [0, 0, 17], ..Vdev::disk("sdd") };
        let mirror = Vdev { status: "DEGRADED", ..Vdev::group("mirror-0", "MIRROR", vec![worn, gone]) };
        let mut flash = Pool::new(2, "flash", 2 * TIB, 700 * GIB, vec![mirror]);
        flash.health = Health::Bad {
            status: "DEGRADED",
            code: "REMOVED_DEV",
            detail: "One or more devices have been removed by the administrator. Sufficient replicas exist for the \
                     pool to continue functioning in a degraded state.",
        };
        flash.scan = Some(Scan {
            function: "RESILVER",
            state: "SCANNING",
            percentage: 37.25,
            start: now - 3_600_000,
            end: None,
            errors: 0,
            seconds_left: Some(6045),
        });
        let mut attic = Pool::new(3, "attic", 4 * TIB, TIB, vec![Vdev::disk("sdf")]);
        attic.health = Health::Warning {
            code: "FEAT_DISABLED",
            detail: "Some supported and requested features are not enabled on the pool.",
        };
        attic.upgraded = false;
        let mut shelf = Pool::new(4, "shelf", TIB, 0, Vec::new());
        shelf.health = Health::Exported;
        let boot = Pool::new(0, "boot-pool", 100 * GIB, 9 * GIB, vec![Vdev::disk("sdg")]);
        let mut world = Self {
            pools: vec![tank, flash, attic, shelf],
            boot,
            datasets: Vec::new(),
            snapshots: Vec::new(),
            alerts: Vec::new(),
            jobs: vec![scrub_job(now - 6 * day)],
            txg: 994,
        };
        world.fill_datasets();
        world.fill_snapshots(now / 1000);
        world.fill_alerts(profile, now);
        world
    }

    fn fill_datasets(&mut self) {
        let root = |id: &str, used: u64, available: u64| Dataset::new(id, used, available);
        self.datasets = vec![
            root("tank", 3400 * GIB, 4600 * GIB),
            root("tank/.system", GIB, 4600 * GIB),
            Dataset {
                quota: Some(3 * TIB),
                comments: Some("films & <b>series</b>".to_owned()),
                ..root("tank/media", 2300 * GIB, 772 * GIB)
            },
            root("tank/media/films", 1900 * GIB, 772 * GIB),
            Dataset { kind: Kind::Volume(64 * GIB), ..root("tank/vm-disk", 66 * GIB, 4600 * GIB) },
            Dataset {
                encryption: Encryption::Unlocked("tank/papers".to_owned()),
                compression: "zstd".to_owned(),
                ..root("tank/papers", 40 * GIB, 4600 * GIB)
            },
            Dataset {
                encryption: Encryption::Locked("tank/vault".to_owned()),
                ..root("tank/vault", 200 * GIB, 4600 * GIB)
            },
            root("tank/laptop backup", 12 * GIB, 4600 * GIB),
            root("flash", 690 * GIB, 1250 * GIB),
            Dataset { refquota: Some(100 * GIB), ..root("flash/db", 37 * GIB, 63 * GIB) },
            root("attic", TIB, 3 * TIB),
            Dataset { readonly: true, ..root("attic/old", 900 * GIB, 3 * TIB) },
        ];
    }

    fn fill_snapshots(&mut self, now: i64) {
        let day = 86_400;
        for (dataset, name, txg, age) in [
            ("tank", "manual", 900, 40 * day),
            ("tank/.system", "internal", 910, 39 * day),
            ("tank/media", "auto-2026-11-20_00-00", 950, 3 * day),
            ("tank/media", "auto-2026-11-21_00-00", 970, 2 * day),
            ("tank/media", "auto-2026-11-22_00-00", 993, day),
            ("flash/db", "before-upgrade", 940, 10 * day),
        ] {
            self.snapshots.push(Snapshot {
                dataset: dataset.to_owned(),
                name: name.to_owned(),
                createtxg: txg,
                creation: now - age,
                used: 96 << 10,
                referenced: 17 * GIB,
            });
        }
    }

    fn fill_alerts(&mut self, profile: Profile, now: i64) {
        let hour = 3_600_000;
        let list = [
            ("SMARTd", "INFO", "Long self-test of <b>sda</b> finished."),
            ("CertificateIsExpiring", "NOTICE", "Certificate 'truenas_default' is expiring within 9 days."),
            ("PoolUpgraded", "WARNING", "New ZFS version or feature flags are available for pool 'attic'."),
            ("ReplicationFailed", "ERROR", "Replication &quot;tank to attic&quot; failed: connection reset.<br>"),
            (
                "VolumeStatus",
                "CRITICAL",
                "Pool flash state is DEGRADED: One or more devices have been removed.<br>The following devices are \
                 not healthy:<ul><li>Disk WDC WD40EFRX <b>WD-4711</b> is REMOVED</li></ul>",
            ),
            ("ZpoolCapacityCritical", "ALERT", "Space usage for pool 'attic' is 92%.\u{7}"),
            (
                "IPMISEL",
                "EMERGENCY",
                "Sensor: 'CPU &lt;1&gt; Temp' is above its limit. See <a href=\"https://example.com/x?a=1&amp;b=2\" \
                 target=\"_blank\">the manual</a>.",
            ),
            ("ScrubFinished", "INFO", "Scrub of pool 'tank' finished."),
        ];
        for ((klass, level, text), number) in list.into_iter().zip(1..) {
            let mut alert = Alert::new(number, klass, level, text, now - i64::from(number) * hour);
            alert.dismissed = klass == "ScrubFinished";
            alert.one_shot = klass == "ReplicationFailed";
            self.alerts.push(alert);
        }
        if profile >= Profile::V25_04 {
            let mut wordless = Alert::new(99, "Unformatted", "NOTICE", "", now - 2 * hour);
            wordless.formatted = None;
            wordless.text = "Something happened to %(what)s.".to_owned();
            self.alerts.push(wordless);
        }
    }

    /// Adds `count` plain datasets below `parent`, named `parent/d0000` and so on.
    pub fn add_datasets(&mut self, parent: &str, count: usize) {
        for number in 0..count {
            self.datasets.push(Dataset::new(&format!("{parent}/d{number:04}"), GIB, 4600 * GIB));
        }
    }

    /// The datasets of imported pools, the appliance's own included.
    pub(crate) fn visible_datasets(&self) -> impl Iterator<Item = &Dataset> {
        self.datasets
            .iter()
            .filter(|dataset| self.pools.iter().any(|pool| pool.name == dataset.pool() && pool.imported()))
    }

    /// Snapshots these datasets in one transaction group.
    pub(crate) fn take(&mut self, datasets: &[String], name: &str) -> Vec<String> {
        self.txg += 7;
        let creation = now_millis() / 1000;
        let mut made = Vec::new();
        for dataset in datasets {
            let referenced = self.datasets.iter().find(|known| known.id == *dataset).map_or(0, |known| known.used);
            let snapshot = Snapshot {
                dataset: dataset.clone(),
                name: name.to_owned(),
                createtxg: self.txg,
                creation,
                used: 0,
                referenced,
            };
            made.push(snapshot.id());
            self.snapshots.push(snapshot);
        }
        made
    }
}

fn scrub_job(started: i64) -> Value {
    json!({
        "id": 1,
        "message_ids": [],
        "method": "pool.scrub.scrub",
        "arguments": ["tank", "START"],
        "transient": false,
        "description": "Scrub of pool 'tank'",
        "abortable": false,
        "logs_path": null,
        "logs_excerpt": null,
        "progress": {"percent": 100, "description": "Scrub finished", "extra": null},
        "result": null,
        "result_encoding_error": null,
        "error": null,
        "exception": null,
        "exc_info": null,
        "state": "SUCCESS",
        "time_started": {"$date": started},
        "time_finished": {"$date": started + 9_000_000},
        "credentials": null,
    })
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
