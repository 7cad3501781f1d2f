//! Which real file systems a Linux machine has, and how full they are.
//!
//! Responsible for reading `mountinfo`, for choosing each real file system once, and for asking
//! them with a deadline: `statvfs` on the share of a dead NFS server never returns. sysinfo's list
//! of disks waits for such servers and lists bind mounts again, so it is not used here. Where the
//! `mountinfo` texts come from is the caller's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::model::{FileSystem, Space, percent};

/// How long all file systems together have for their answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// One line of `mountinfo`, see proc_pid_mountinfo(5).
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    id: u32,
    parent: u32,
    /// Major and minor number: the same for all mounts of one file system, also for the
    /// subvolumes of a btrfs.
    number: String,
    /// Directory of the file system that is mounted; `/` unless bind mount or subvolume.
    inner: PathBuf,
    point: PathBuf,
    kind: String,
    source: String,
    read_only: bool,
    /// Read-only as a whole, not just this mount of it.
    read_only_inside: bool,
    /// Whether this process can see it at all.
    visible: bool,
}

/// What [`measure`] found out.
pub(crate) struct Disks {
    /// Space of the root file system, also of one that is not listed, such as an overlay.
    pub(crate) root: Option<Space>,
    /// The file systems by mount point.
    pub(crate) list: Vec<FileSystem>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}

/// The file systems of this process's own world.
pub(crate) fn own(mountinfo: &str) -> Vec<Mount> {
    each_once(parse(mountinfo))
}

/// The file systems of the host, whose root directory is mounted at `root`.
///
/// A mount that the host made after this container started is not there below `root`: asking the
/// path would give the numbers of the file system beneath it. Our own list tells which are there.
pub(crate) fn of_host(host: &str, own: &str, root: &Path) -> Vec<Mount> {
    let seen: BTreeSet<_> = below_root(own, root).map(|mount| (mount.point, mount.number)).collect();
    let mut mounts = parse(host);
    for mount in &mut mounts {
        mount.visible = seen.contains(&(mount.point.clone(), mount.number.clone()));
    }
    each_once(mounts)
}

/// What can be told about the host's file systems from our own mounts below `root`.
pub(crate) fn below(own: &str, root: &Path) -> Vec<Mount> {
    each_once(below_root(own, root).collect())
}

/// Our own mounts below `root`, with the mount points they have on the host.
fn below_root(own: &str, root: &Path) -> impl Iterator<Item = Mount> {
    parse(own).into_iter().filter_map(move |mount| {
        Some(Mount {
            point: Path::new("/").join(mount.point.strip_prefix(root).ok()?),
            // The host's directory is usually mounted read-only here, which says nothing about it.
            read_only: mount.read_only_inside,
            ..mount
        })
    })
}

fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// `36 35 98:0 /inner /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`; the number
/// of fields before the dash varies.
fn parse_line(line: &str) -> Option<Mount> {
    let (place, what) = line.split_once(" - ")?;
    let mut place = place.split(' ');
    let mut what = what.split(' ');
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let id = place.next()?.parse().ok()?;
    let parent = place.next()?.parse().ok()?;
    let number = place.next()?.to_owned();
    let inner = unescape(place.next()?).into();
    let point = unescape(place.next()?).into();
    let read_only = is_read_only(place.next()?);
    let kind = what.next()?.to_owned();
    let source = unescape(what.next()?);
    let read_only_inside = is_read_only(what.next()?);
    Some(Mount {
        id,
        parent,
        number,
        inner,
        point,
        kind,
        source,
        read_only: read_only || read_only_inside,
        read_only_inside,
        visible: true,
    })
}

/// The kernel writes space, tab, newline, `\` and `#` as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.bytes().skip(3));
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Leaves of each real file system the mount that people know it by.
fn each_once(all: Vec<Mount>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> =
        all.iter().filter(|mount| is_real(mount) && !is_covered(mount, &all)).cloned().collect();
    let rank = |mount: &Mount| {
        let is_root = mount.point == Path::new("/");
        let is_whole = mount.inner == Path::new("/");
        // One that we can see; after the root directory a mount of the whole file system; the oldest.
        (!mount.visible, !is_root, !is_whole, mount.point.components().count(), mount.id)
    };
    mounts.sort_by_cached_key(rank);
    let mut seen = BTreeSet::new();
    mounts.retain(|mount| seen.insert(mount.number.clone()));
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts
}

/// Whether it keeps files: it is on a block device, or of a kind known to do without.
///
/// A list of what is real is shorter and ages better than one of all the kernel's pseudo file
/// systems. FUSE is the exception: anybody can write one, so there the unreal are listed.
fn is_real(mount: &Mount) -> bool {
    /// Real ones whose source is not a path below /dev.
    const WITHOUT_DEVICE: [&str; 15] = [
        "zfs",
        "btrfs",
        "bcachefs",
        "ubifs",
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "virtiofs",
        "ceph",
        "glusterfs",
        "vboxsf",
        "fuse",
    ];
    /// Images that are always full, and pseudo file systems whose source can be any text.
    const NEVER: [&str; 9] =
        ["squashfs", "erofs", "iso9660", "cramfs", "overlay", "aufs", "tmpfs", "devtmpfs", "autofs"];
    const UNREAL_FUSE: [&str; 8] =
        ["lxcfs", "portal", "gvfsd-fuse", "snapfuse", "squashfuse", "squashfuse_ll", "fuse-overlayfs", "rootlesskit"];
    /// Files that a container engine puts into every container.
    const ENGINE_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

    let kind = mount.kind.as_str();
    let stores_files = match kind.strip_prefix("fuse.") {
        Some(program) => !UNREAL_FUSE.contains(&program),
        None => mount.source.starts_with("/dev/") || WITHOUT_DEVICE.contains(&kind),
    };
    let point = mount.point.to_string_lossy();
    stores_files
        && !NEVER.contains(&kind)
        // Such as Proxmox' configuration in /etc/pve.
        && mount.source != "/dev/fuse"
        && !ENGINE_FILES.contains(&&*point)
        // Docker's ZFS driver: a dataset for every running container.
        && !point.contains("/zfs/graph/")
}

/// Whether another mount lies over it, so that its path leads elsewhere.
fn is_covered(mount: &Mount, all: &[Mount]) -> bool {
    all.iter().any(|other| {
        let on_top = other.parent == mount.id && other.point == mount.point;
        let over_its_directory =
            other.parent == mount.parent && other.point != mount.point && mount.point.starts_with(&other.point);
        other.id != mount.id && (on_top || over_its_directory)
    })
}

/// Asks all file systems at once for their space. `root` is where their mount points start from.
pub(crate) fn measure(root: &Path, mounts: Vec<Mount>) -> Disks {
    let path = |mount: &Mount| root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
    let visible = mounts.iter().filter(|mount| mount.visible).map(path);
    let paths: BTreeSet<PathBuf> = visible.chain([root.to_owned()]).collect();
    let answers = ask(paths, PATIENCE, statvfs);

    let mut list = Vec::new();
    let mut notes = Vec::new();
    let mut invisible = Vec::new();
    for mount in mounts {
        let path = path(&mount);
        let mut listed = FileSystem {
            mount: mount.point.to_string_lossy().into_owned(),
            device: mount.source,
            kind: mount.kind,
            read_only: mount.read_only,
            ..FileSystem::default()
        };
        let answer = answers.get(&path).filter(|_| mount.visible);
        listed.unreachable = !matches!(answer, Some(Ok(_)));
        match answer {
            Some(Ok(Some(space))) => listed = listed.with_space(*space),
            Some(Ok(None)) => notes.push(format!("{}: tells no size, or not to this user", listed.mount)),
            Some(Err(error)) => notes.push(format!("{}: {error}", listed.mount)),
            None if mount.visible => {
                notes.push(format!("{}: no answer within {} s", listed.mount, PATIENCE.as_secs()));
            }
            None => invisible.push(listed.mount.clone()),
        }
        list.push(listed);
    }
    if !invisible.is_empty() {
        notes.push(format!(
            "not visible below HOST_ROOT, probably mounted after this container started (restart \
             it, or mount the host's root with rslave): {}",
            invisible.join(", ")
        ));
    }
    let root = answers.get(root).and_then(|answer| answer.as_ref().ok().copied().flatten());
    Disks { root, list, notes }
}

type Answer = rustix::io::Result<Option<Space>>;

/// Asks each path in a thread of its own; who has not answered in time is missing in the result.
fn ask(paths: BTreeSet<PathBuf>, patience: Duration, question: fn(&Path) -> Answer) -> BTreeMap<PathBuf, Answer> {
    let started = Instant::now();
    let (sender, answers) = mpsc::channel();
    for path in paths {
        // A thread in a dead server's hands cannot be ended. While one hangs there, later calls
        // do not send another after it, or every call would leave one more behind.
        let asked_at = *unanswered().entry(path.clone()).or_insert(started);
        if started.saturating_duration_since(asked_at) >= patience {
            continue;
        }
        let sender = sender.clone();
        let asked = path.clone();
        let thread = thread::Builder::new().name("statvfs".to_owned()).spawn(move || {
            let answer = question(&asked);
            unanswered().remove(&asked);
            // Nobody listens any more when the answer comes late.
            let _ = sender.send((asked, answer));
        });
        if thread.is_err() {
            unanswered().remove(&path);
        }
    }
    drop(sender);
    let mut received = BTreeMap::new();
    while let Ok((path, answer)) = answers.recv_timeout(patience.saturating_sub(started.elapsed())) {
        received.insert(path, answer);
    }
    received
}

/// The paths that have been asked and since when.
fn unanswered() -> MutexGuard<'static, BTreeMap<PathBuf, Instant>> {
    static UNANSWERED: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());
    UNANSWERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The space of the file system at `path`; nothing when it has no size, as some FUSE ones do.
fn statvfs(path: &Path) -> Answer {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((stat.f_blocks > 0).then(|| Space {
        total: bytes(stat.f_blocks),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: bytes(stat.f_bavail),
        // btrfs and others make inodes as needed and say 0; there is no share of that.
        inodes_used_percent: (stat.f_files > 0)
            .then(|| percent(stat.f_files.saturating_sub(stat.f_ffree), stat.f_files))
            .flatten(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home server with a bit of everything.
    const HOST: &str = r"
1 1 0:2 / / rw - rootfs rootfs rw
25 1 0:30 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd,subvol=/@
26 25 0:30 /@home /home rw,relatime shared:2 - btrfs /dev/nvme0n1p2 rw,subvol=/@home
27 25 0:30 / /mnt/pool rw,relatime - btrfs /dev/nvme0n1p2 rw,subvolid=5
28 25 259:1 / /boot/efi rw,relatime - vfat /dev/nvme0n1p1 rw
30 25 0:21 / /proc rw - proc proc rw
31 25 0:24 / /run rw - tmpfs tmpfs rw
32 25 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
33 25 8:1 /share /srv/share rw - ext4 /dev/sda1 rw
34 25 8:1 / /mnt/my\040big\134disk\011x rw - ext4 /dev/sda1 rw
35 25 8:17 / /mnt/failed rw - ext4 /dev/sdb1 ro,errors=remount-ro
36 25 0:50 / /tank rw master:3 - zfs tank rw
37 36 0:51 / /tank/media rw - zfs tank/media rw
38 25 0:52 / /var/lib/docker/zfs/graph/0123 rw - zfs tank/docker/0123 rw
39 25 0:60 / /mnt/nas rw - nfs4 nas:/export rw,addr=10.0.0.2
40 25 0:61 / /mnt/win ro - cifs //win/share rw
41 25 0:62 / /mnt/auto rw - autofs systemd-1 rw
42 25 0:63 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
43 25 0:64 / /run/user/1000/doc rw - fuse.portal portal rw
44 25 0:65 / /mnt/merged rw - fuse.mergerfs a:b rw
45 25 0:66 / /etc/pve rw - fuse /dev/fuse rw
46 25 0:70 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
47 25 0:4 net:[4026532281] /run/docker/netns/default rw - nsfs nsfs rw
48 25 8:33 / /media/stick rw - exfat /dev/sdc1 rw
49 48 8:49 / /media/stick rw - exfat /dev/sdd1 rw
50 25 8:65 / /old/data rw - ext4 /dev/sde1 rw
51 25 8:81 / /old rw - ext4 /dev/sdf1 rw
";

    fn points(mounts: &[Mount]) -> Vec<String> {
        mounts.iter().map(|mount| mount.point.display().to_string()).collect()
    }

    fn at<'a>(mounts: &'a [Mount], point: &str) -> &'a Mount {
        mounts.iter().find(|mount| mount.point == Path::new(point)).unwrap()
    }

    #[test]
    fn each_real_file_system_once() {
        let mounts = own(HOST);
        assert_eq!(
            points(&mounts),
            [
                "/",
                "/boot/efi",
                "/media/stick",
                "/mnt/failed",
                "/mnt/merged",
                "/mnt/my big\\disk\tx",
                "/mnt/nas",
                "/mnt/win",
                "/old",
                "/tank",
                "/tank/media",
            ]
        );
        assert_eq!(at(&mounts, "/media/stick").source, "/dev/sdd1", "the one on top");
        assert!(at(&mounts, "/mnt/failed").read_only, "by the kernel");
        assert!(at(&mounts, "/mnt/win").read_only, "by its mount");
        assert!(!at(&mounts, "/").read_only);
    }

    #[test]
    fn lines_that_are_none_are_skipped() {
        assert!(own("").is_empty());
        assert!(own("garbage\n1 2 - x\n36 25 8:1 / /a rw - ext4\n - \n").is_empty());
        assert_eq!(unescape(r"a\040b\9\04"), r"a b\9\04");
        assert_eq!(unescape(r"\303\251t\303\251\040é"), "été é");
    }

    /// Our own view from a container in which the host's root was mounted, read-only, at /host.
    const CONTAINER: &str = r"
70 60 0:80 / / rw - overlay overlay rw
71 70 8:1 /docker/hosts /etc/hosts rw - ext4 /dev/sda1 rw
72 70 8:1 / /host ro - ext4 /dev/sda1 rw
73 72 8:17 / /host/mnt/a ro - xfs /dev/sdb1 rw
74 70 8:33 / /hostile rw - xfs /dev/sdc1 rw
";

    #[test]
    fn mounts_younger_than_the_container_are_not_asked() {
        let host = "\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:17 / /mnt/a rw - xfs /dev/sdb1 rw
22 20 8:49 / /mnt/late rw - xfs /dev/sdd1 rw
";
        let mounts = of_host(host, CONTAINER, Path::new("/host"));
        let seen: Vec<_> = mounts.iter().map(|mount| (mount.point.to_str().unwrap(), mount.visible)).collect();
        assert_eq!(seen, [("/", true), ("/mnt/a", true), ("/mnt/late", false)]);
        assert!(mounts.iter().all(|mount| !mount.read_only), "only the container's view is");

        // The temporary directory answers for every path below it, but late is not to be asked.
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("mnt/late")).unwrap();
        let disks = measure(root.path(), mounts);
        assert!(disks.root.unwrap().total > 0);
        assert!(disks.list[0].total_bytes.unwrap() > 0);
        let why: Vec<_> = disks.list.iter().map(|listed| listed.unreachable).collect();
        assert_eq!(why, [false, true, true]);
        assert_eq!(disks.list[2].total_bytes, None);
        assert!(disks.notes[0].starts_with("/mnt/a: No such file"), "{:?}", disks.notes);
        assert!(disks.notes[1].ends_with("rslave): /mnt/late"), "{:?}", disks.notes);
    }

    #[test]
    fn a_duplicate_that_can_be_seen_is_preferred() {
        let host = "\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
22 20 8:17 / /a rw - xfs /dev/sdb1 rw
23 20 8:17 /x /mnt/a rw - xfs /dev/sdb1 rw
";
        assert_eq!(points(&of_host(host, CONTAINER, Path::new("/host"))), ["/", "/mnt/a"]);
    }

    #[test]
    fn without_the_hosts_list_our_own_below_root_must_do() {
        let mounts = below(CONTAINER, Path::new("/host"));
        assert_eq!(points(&mounts), ["/", "/mnt/a"]);
        assert!(mounts.iter().all(|mount| !mount.read_only));
        // A container without HOST_ROOT: its volumes, not the files its engine put there.
        assert_eq!(points(&own(CONTAINER)), ["/host", "/host/mnt/a", "/hostile"]);
    }

    #[test]
    fn who_hangs_does_not_hold_up_the_others_and_is_not_asked_again() {
        static ASKED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        const PATIENCE: Duration = Duration::from_millis(100);
        let ask_both = || {
            let paths = ["/dead server", "/fine"].map(PathBuf::from).into();
            let started = Instant::now();
            let answers = ask(paths, PATIENCE, |path| {
                if path.ends_with("dead server") {
                    ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1500));
                }
                Ok(None)
            });
            assert_eq!(answers.keys().collect::<Vec<_>>(), [Path::new("/fine")]);
            started.elapsed()
        };
        let first = ask_both();
        assert!(first >= PATIENCE && first < 10 * PATIENCE, "{first:?}");
        assert!(ask_both() < 10 * PATIENCE);
        assert_eq!(ASKED.load(std::sync::atomic::Ordering::Relaxed), 1);
        // When the server is back, it is asked again.
        thread::sleep(Duration::from_millis(1800));
        assert!(!unanswered().contains_key(Path::new("/dead server")));
    }
}
