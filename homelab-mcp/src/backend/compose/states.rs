//! Which containers belong to which stack folder, and what that makes of the stack. Pure: folders come from
//! `stacks.rs`, containers from the Docker Engine, and neither is asked here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::stacks::{Folder, Stacks, file};

/// A container as compose labelled it. One-off containers (`compose run`) are included and told by `oneoff`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerLabels {
    /// The container's name, without the slash that the Engine puts before it.
    pub(crate) name: String,
    /// The image it was made from.
    pub(crate) image: String,
    /// created, running, paused, restarting, removing, exited or dead.
    pub(crate) state: String,
    /// healthy, unhealthy or starting, if it has a health check and runs.
    pub(crate) health: Option<String>,
    /// How its last run ended, if it is not running now.
    pub(crate) exit_code: Option<i64>,
    /// `com.docker.compose.project`.
    pub(crate) project: String,
    /// `com.docker.compose.service`.
    pub(crate) service: String,
    /// `com.docker.compose.oneoff`.
    pub(crate) oneoff: bool,
    /// `com.docker.compose.project.working_dir`.
    pub(crate) working_dir: Option<PathBuf>,
    /// `com.docker.compose.project.config_files`.
    pub(crate) config_files: Vec<PathBuf>,
}

impl ContainerLabels {
    /// From a row of the Engine's list; `status` is its sentence ("Exited (0) 2 hours ago", "Up 5 minutes (healthy)").
    /// None for a container that compose did not make.
    pub(crate) fn from_row(
        name: &str,
        image: &str,
        state: &str,
        status: &str,
        labels: &HashMap<String, String>,
    ) -> Option<Self> {
        let label = |key: &str| labels.get(&format!("com.docker.compose.{key}")).filter(|value| !value.is_empty());
        let parens = status.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner);
        Some(Self {
            name: name.trim_start_matches('/').to_owned(),
            image: image.to_owned(),
            state: state.to_ascii_lowercase(),
            health: match parens {
                Some("healthy" | "unhealthy") => parens.map(str::to_owned),
                Some("health: starting") => Some("starting".to_owned()),
                _ => None,
            },
            exit_code: status.starts_with("Exited").then(|| parens.and_then(|code| code.parse().ok())).flatten(),
            project: label("project")?.clone(),
            service: label("service").cloned().unwrap_or_default(),
            oneoff: label("oneoff").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            working_dir: label("project.working_dir").map(PathBuf::from),
            config_files: label("project.config_files")
                .map(|list| list.split(',').map(PathBuf::from).collect())
                .unwrap_or_default(),
        })
    }
}

/// What a stack as a whole does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Every container runs, apart from those that did their work and ended well.
    Running,
    /// Some run, or some are paused or keep restarting.
    Partial,
    /// None runs, at least one did.
    Exited,
    /// None was ever started.
    Created,
    /// There is a folder and no container.
    Down,
    /// There are containers and their folder is gone.
    Orphaned,
}

impl State {
    /// The word for results.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Partial => "partial",
            Self::Exited => "exited",
            Self::Created => "created",
            Self::Down => "down",
            Self::Orphaned => "orphaned",
        }
    }
}

/// One service of a stack, as far as it has containers.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name in the compose file.
    pub(crate) service: String,
    /// The containers' common state, or `mixed`.
    pub(crate) state: String,
    /// The worst health among them: unhealthy, starting, healthy.
    pub(crate) health: Option<String>,
    /// Whether it ended with exit code 0 and nothing of it runs: a one-shot that did its work.
    pub(crate) completed: bool,
    /// The names of its containers.
    pub(crate) containers: Vec<String>,
    /// The image of the first of them.
    pub(crate) image: String,
}

/// A stack, or a compose project that is none of ours.
#[derive(Clone, Debug)]
pub(crate) struct StackState {
    /// The folder's name; the project's, if there is no folder.
    pub(crate) name: String,
    /// The folder, below the root as configured; for foreign and orphaned projects the working directory by label.
    pub(crate) folder: Option<PathBuf>,
    /// The names of the compose files.
    pub(crate) files: Vec<String>,
    /// The project name of its containers; without any, the one compose would choose.
    pub(crate) project: String,
    /// Whether it has a folder below the root, so that the stack tools work on it.
    pub(crate) managed: bool,
    /// All in one word.
    pub(crate) state: State,
    /// Its services, by name.
    pub(crate) services: Vec<Service>,
    /// Containers that run.
    pub(crate) running: usize,
    /// Containers that ended with exit code 0 while others run.
    pub(crate) completed: usize,
    /// All containers, one-off ones left out.
    pub(crate) total: usize,
    /// How compose has to be called to meet the containers that are there.
    pub(crate) identity: Identity,
    /// What a reader should know: sentences without a full stop.
    pub(crate) notes: Vec<String>,
}

/// How the containers of a folder were made, where that is not what compose would do by itself now. Without it `up`
/// would make a second copy (another project) or make every container anew (another spelling of the folder).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The project name to insist on.
    pub(crate) project: Option<String>,
    /// The spelling of the folder that its containers have in their labels and bind mounts.
    pub(crate) path: Option<PathBuf>,
}

impl Stacks {
    /// [`states`] below this root.
    pub(crate) fn states(&self, folders: &[Folder], containers: &[ContainerLabels]) -> Vec<StackState> {
        let real = self.real_root().ok();
        let roots: Vec<&Path> = [Some(self.root()), real.as_deref()].into_iter().flatten().collect();
        states(&roots, folders, containers)
    }
}

/// Folders and containers brought together. `roots` are the spellings of the stacks folder: in a container the paths
/// are the same inside and outside, so labels can be compared as they are.
pub(crate) fn states(roots: &[&Path], folders: &[Folder], containers: &[ContainerLabels]) -> Vec<StackState> {
    let folders: Vec<&Folder> = folders.iter().filter(|folder| folder.alias.is_none()).collect();
    let mut own: Vec<Vec<&ContainerLabels>> = vec![Vec::new(); folders.len()];
    let mut foreign: BTreeMap<&str, Vec<&ContainerLabels>> = BTreeMap::new();

    for container in containers.iter().filter(|container| !container.oneoff) {
        match owner(&folders, container) {
            Some(index) => own.get_mut(index).into_iter().for_each(|list| list.push(container)),
            None => foreign.entry(&container.project).or_default().push(container),
        }
    }

    let mut all: Vec<StackState> = folders.iter().zip(own).map(|(folder, list)| of_folder(folder, &list)).collect();
    all.extend(foreign.into_iter().map(|(project, list)| without_folder(roots, project, &list)));
    all.sort_by(|a, b| (&a.name, !a.managed).cmp(&(&b.name, !b.managed)));
    all
}

/// The folder a container belongs to: the one it was started in, else the one whose project it is in.
fn owner(folders: &[&Folder], container: &ContainerLabels) -> Option<usize> {
    let by_dir = container
        .working_dir
        .as_deref()
        .and_then(|dir| folders.iter().position(|folder| dir == folder.path || dir == folder.dir));
    let by_file = || {
        let first = container.config_files.first()?;
        folders.iter().position(|folder| first.starts_with(&folder.path) || first.starts_with(&folder.dir))
    };
    // Compose goes by the project name alone: `up` in that folder would take these containers over.
    let by_project = || folders.iter().position(|folder| folder.project == container.project);
    by_dir.or_else(by_file).or_else(by_project)
}

/// The state of a folder with its containers.
fn of_folder(folder: &Folder, containers: &[&ContainerLabels]) -> StackState {
    let mut notes = folder.notes.clone();
    notes.extend(folder.inoperable.clone());

    let projects: BTreeSet<&str> = containers.iter().map(|container| container.project.as_str()).collect();
    // With several, the one compose would choose is the stack; the others are left-overs of it.
    let project = projects
        .get(folder.project.as_str())
        .or_else(|| projects.first())
        .map_or_else(|| folder.project.clone(), |name| (*name).to_owned());
    if projects.len() > 1 {
        notes.push(format!(
            "its containers run under several project names ({}); operations reach those of {project} only",
            projects.iter().copied().collect::<Vec<_>>().join(", ")
        ));
    }
    let mut identity = Identity::default();
    if project != folder.project {
        notes.push(format!(
            "its containers run as project {project}; compose by itself would choose {}",
            folder.project
        ));
        identity.project = Some(project.clone());
    }
    let mut elsewhere = BTreeSet::new();
    for dir in containers.iter().filter_map(|container| container.working_dir.as_deref()) {
        if dir == folder.path {
        } else if dir == folder.dir {
            identity.path = Some(dir.to_owned());
        } else {
            elsewhere.insert(dir);
        }
    }
    for dir in elsewhere {
        notes.push(format!(
            "containers of project {project} were started from {}, not from this folder; operations here would take \
             them over",
            dir.display()
        ));
    }
    summed_up(
        StackState {
            name: folder.name.clone(),
            folder: Some(folder.path.clone()),
            files: folder.files.iter().map(|path| file(path).into_owned()).collect(),
            project,
            managed: folder.inoperable.is_none(),
            state: State::Down,
            services: Vec::new(),
            running: 0,
            completed: 0,
            total: 0,
            identity,
            notes,
        },
        containers,
    )
}

/// A project that has no folder of ours: its folder is gone, or it lies elsewhere.
fn without_folder(roots: &[&Path], project: &str, containers: &[&ContainerLabels]) -> StackState {
    let folder = containers.iter().find_map(|container| container.working_dir.clone());
    let gone = folder.as_deref().is_some_and(|dir| roots.iter().any(|root| dir.starts_with(root)));
    let place = folder.as_deref().map(|dir| dir.display().to_string());
    let note = match (&place, gone) {
        (Some(place), true) => format!("its folder {place} is gone or has no compose file"),
        (Some(place), false) => format!("it is managed elsewhere, in {place}"),
        (None, _) => "it is managed elsewhere".to_owned(),
    };
    let mut state = summed_up(
        StackState {
            name: project.to_owned(),
            files: containers
                .first()
                .map(|container| container.config_files.iter().map(|path| file(path).into_owned()).collect())
                .unwrap_or_default(),
            folder,
            project: project.to_owned(),
            managed: false,
            state: State::Down,
            services: Vec::new(),
            running: 0,
            completed: 0,
            total: 0,
            identity: Identity::default(),
            notes: vec![note],
        },
        containers,
    );
    if gone {
        state.state = State::Orphaned;
    }
    state
}

/// Counts, services and the one word.
fn summed_up(mut stack: StackState, containers: &[&ContainerLabels]) -> StackState {
    let ended_well = |container: &ContainerLabels| container.state == "exited" && container.exit_code == Some(0);
    let count = |states: &[&str]| containers.iter().filter(|c| states.contains(&c.state.as_str())).count();

    let alive = count(&["running", "paused", "restarting"]);
    stack.total = containers.len();
    stack.running = count(&["running"]);
    // What ended well counts as done only beside something that runs; a stopped stack also ends with 0 everywhere.
    stack.completed = if stack.running > 0 { containers.iter().filter(|c| ended_well(c)).count() } else { 0 };
    stack.state = match () {
        () if containers.is_empty() => State::Down,
        () if stack.running > 0 && stack.running + stack.completed == stack.total => State::Running,
        () if alive > 0 => State::Partial,
        () if count(&["created"]) == stack.total => State::Created,
        () => State::Exited,
    };

    let mut services: BTreeMap<&str, Vec<&ContainerLabels>> = BTreeMap::new();
    for container in containers {
        services.entry(&container.service).or_default().push(container);
    }
    stack.services = services
        .into_iter()
        .map(|(service, mut list)| {
            list.sort_by(|a, b| a.name.cmp(&b.name));
            let states: BTreeSet<&str> = list.iter().map(|container| container.state.as_str()).collect();
            let worst = ["unhealthy", "starting", "healthy"];
            Service {
                service: service.to_owned(),
                state: match (states.len(), states.first()) {
                    (1, Some(state)) => (*state).to_owned(),
                    _ => "mixed".to_owned(),
                },
                health: worst
                    .iter()
                    .find(|health| list.iter().any(|container| container.health.as_deref() == Some(**health)))
                    .map(|health| (*health).to_owned()),
                completed: list.iter().all(|container| ended_well(container)),
                containers: list.iter().map(|container| container.name.clone()).collect(),
                image: list.first().map(|container| container.image.clone()).unwrap_or_default(),
            }
        })
        .collect();
    stack
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn container(project: &str, dir: &str, service: &str, state: &str, status: &str) -> ContainerLabels {
        let labels = [("project", project), ("project.working_dir", dir), ("service", service), ("oneoff", "False")]
            .into_iter()
            .map(|(key, value)| (format!("com.docker.compose.{key}"), value.to_owned()))
            .collect();
        ContainerLabels::from_row(&format!("/{project}-{service}-1"), "img", state, status, &labels).unwrap()
    }

    fn folders(names: &[&str]) -> (tempfile::TempDir, Stacks, Vec<Folder>) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("compose.yaml"), "").unwrap();
        }
        let stacks = Stacks::new(dir.path().to_owned(), None);
        let folders = stacks.list().unwrap().folders;
        (dir, stacks, folders)
    }

    #[test]
    fn the_engines_sentence_is_understood() {
        let web = container("p", "/x", "web", "running", "Up 5 minutes (unhealthy)");
        assert!(web.name == "p-web-1" && web.health.as_deref() == Some("unhealthy") && web.exit_code.is_none());
        let job = container("p", "/x", "job", "exited", "Exited (137) 2 hours ago");
        assert!(job.exit_code == Some(137) && job.health.is_none());
        assert!(ContainerLabels::from_row("x", "i", "running", "Up", &HashMap::new()).is_none());
    }

    #[test]
    fn a_state_is_what_the_containers_say() {
        let (dir, stacks, folders) = folders(&["s"]);
        let at = dir.path().join("s");
        let at = at.to_str().unwrap();
        let up = |service| container("s", at, service, "running", "Up 1 minute");
        let done = |service| container("s", at, service, "exited", "Exited (0) now");
        let failed = |service| container("s", at, service, "exited", "Exited (1) now");
        let other = |state| container("s", at, "o", state, "");
        for (containers, state) in [
            (vec![], State::Down),
            (vec![up("a"), up("b")], State::Running),
            (vec![up("a"), done("migrate")], State::Running),
            (vec![up("a"), failed("b")], State::Partial),
            (vec![other("restarting")], State::Partial),
            (vec![other("paused"), up("a")], State::Partial),
            (vec![done("a"), done("b")], State::Exited),
            (vec![failed("a"), other("created")], State::Exited),
            (vec![other("created")], State::Created),
            (vec![up("a"), ContainerLabels { oneoff: true, ..failed("a") }], State::Running),
        ] {
            let all = stacks.states(&folders, &containers);
            assert_eq!((all.len(), all[0].state), (1, state), "{containers:?}");
        }
        let both = stacks.states(&folders, &[up("a"), done("migrate")]);
        assert_eq!((both[0].running, both[0].completed, both[0].total), (1, 1, 2));
        assert!(both[0].services[1].completed && !both[0].services[0].completed);
    }

    #[test]
    fn containers_find_their_folder_by_place_and_then_by_name() {
        let (dir, stacks, folders) = folders(&["a", "b"]);
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let all = stacks.states(
            &folders,
            &[
                container("renamed", &path("a"), "x", "running", "Up"),
                container("b", "/home/me/b", "y", "running", "Up"),
                container("old", &path("gone"), "z", "running", "Up"),
                container("far", "/srv/far", "w", "running", "Up"),
            ],
        );
        let find = |name: &str| all.iter().find(|stack| stack.name == name).unwrap();
        assert_eq!(find("a").identity.project.as_deref(), Some("renamed"));
        assert!(find("b").identity == Identity::default() && find("b").notes[0].contains("/home/me/b"));
        assert!(find("old").state == State::Orphaned && !find("old").managed);
        assert!(
            find("far").state == State::Running && !find("far").managed && find("far").notes[0].contains("/srv/far")
        );
    }

    #[test]
    fn another_spelling_of_the_root_is_the_same_folder() {
        let (dir, _, _) = folders(&["a"]);
        let links = tempfile::tempdir().unwrap();
        let root = links.path().join("stacks");
        std::os::unix::fs::symlink(dir.path(), &root).unwrap();
        let stacks = Stacks::new(root, None);
        let folders = stacks.list().unwrap().folders;
        let real = dir.path().canonicalize().unwrap().join("a");
        let all = stacks.states(&folders, &[container("a", real.to_str().unwrap(), "x", "running", "Up")]);
        assert_eq!((all.len(), all[0].identity.path.as_ref()), (1, Some(&real)));
        assert!(all[0].notes.is_empty() && all[0].folder.as_ref().unwrap().starts_with(links.path()));
    }
}
