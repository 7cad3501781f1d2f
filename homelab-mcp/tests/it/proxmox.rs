//! Proxmox VE through the real binary: every version, all fourteen tools, and each oddity of the vendor's API.
//!
//! Oddity, and the test that shows it is met:
//!
//! | the API | test |
//! |---|---|
//! | 401 after 3 s, without body or length: only the reason phrase says why, in other words by version | `refusals::three_seconds_until_a_refusal_are_waited_for`, `refusals::a_token_that_is_not_accepted_is_told_with_the_variables_to_check` |
//! | before 8.3 an error's text is in the reason phrase alone, then in `message` or `errors`, or the body is plain text; raw UTF-8, Perl's file and line | `refusals::the_words_are_found_wherever_they_are_and_told_without_source_lines` |
//! | 403 names path and privilege | `refusals::the_privilege_that_is_missing_is_named_in_every_version` |
//! | lists are 200 and empty, or shorter, for a token without an ACL of its own | `lists::empty_lists_of_a_token_without_rights_say_why` |
//! | nodes lose their load without Sys.Audit; the cluster's status is 403 | `lists::empty_lists_of_a_token_without_rights_say_why`, `refusals::the_privilege_that_is_missing_is_named_in_every_version` |
//! | backups are hidden from who may only audit | `backups::a_token_that_sees_no_backups_says_that_it_cannot_know`, `backups::a_token_that_sees_only_some_backups_says_so` |
//! | a proxied answer has two Connection headers; every error closes | all that read a guest's status |
//! | an idle connection is cut without notice | `faults::a_read_over_a_connection_that_was_cut_meanwhile_is_repeated_once`, `faults::a_change_goes_over_a_connection_of_its_own` |
//! | 100 requests for each connection | `faults::a_connection_takes_a_hundred_requests_and_then_another_is_made` |
//! | 501 for a body with GET or DELETE and for chunks; a cookie would win over the token | `refusals::the_token_is_sent_in_the_vendors_form_and_nothing_else_is` |
//! | `%2f` is decoded before routing | `refusals::nothing_that_a_caller_writes_gets_into_a_path`, `refusals::what_the_appliance_names_is_checked_before_it_is_used` |
//! | 596 after which it happened nevertheless | `faults::a_596_after_which_it_happened_nevertheless_is_found_out` |
//! | 595 where the daemon is down, while the list answers; 596 where it hangs | `refusals::the_daemon_being_down_is_said_and_the_list_still_answers` |
//! | 595 for a dead node, 500 for one without an address | `refusals::a_node_that_cannot_be_reached_or_has_no_address_is_named` |
//! | 599, 501, pages of a proxy | `refusals::the_words_are_found_wherever_they_are_and_told_without_source_lines`, `faults::an_answer_that_is_none_is_an_error_and_not_an_empty_list` |
//! | an unknown guest is 500 or a failing task, never 404 | `lists::a_guest_that_moved_since_the_list_was_made_is_looked_up_again`, `power::a_guest_that_moves_between_the_look_and_the_request_is_asked_for_where_it_is` |
//! | vmid outside 100 to 999999999 is 400 | `refusals::a_number_that_is_no_guests_is_refused_before_anything_is_asked` |
//! | 200 with a UPID, and then the task fails | `power::a_task_that_fails_gives_its_reason_and_the_state`, `power::what_became_so_in_between_is_what_the_task_says` |
//! | the same mistake of a container is a 500 at once; stop of a stopped VM is OK, its reboot a 500 | `power::somebody_who_was_faster_is_no_failure` |
//! | `WARNINGS: 1` is a success | `power::warnings_are_a_success_and_are_told` |
//! | `unexpected status`, `unable to read tail`: nobody knows | `power::a_task_whose_end_says_nothing_is_judged_by_the_state`, `snapshots::only_the_list_proves_a_snapshot`, `delete::whether_it_is_gone_counts_and_not_how_its_task_ended` |
//! | a running task's log reads `no content`; of an unknown task it is an object | `power::a_running_task_is_told_of_and_an_empty_log_is_not_quoted`, `faults::a_log_that_is_gone_or_no_list_does_not_hide_how_a_task_ended` |
//! | a log's `limit` is 50 from its beginning | `faults::the_end_of_a_long_log_is_shown_of_a_failed_task` |
//! | an unknown task's status is 400 | `faults::a_task_that_nobody_knows_any_more_is_judged_by_the_state` |
//! | a reboot adds a start of root@pam's; running tasks name their user in another way | `faults::a_change_whose_answer_is_lost_is_looked_for_and_not_sent_again` |
//! | HA tasks are OK without the guest having moved | `power::ha_is_followed_until_the_guest_has_moved`, `power::ha_that_never_moves_is_running_and_then_failed_but_never_done` |
//! | a lock file that is held: 10 s, then a failed task | `power::a_lock_that_somebody_holds_fails_after_the_vendors_patience` |
//! | a shutdown that is ignored ends with `got timeout`; `overrule-shutdown` came with 8.2, not for HA | `power::a_guest_that_does_not_listen_runs_into_its_time_and_force_helps`, `power::a_waiting_shutdown_can_be_overruled_where_the_version_can` |
//! | no quorum: no start (500), no writing (a failed task), but stopping works | `refusals::without_quorum_nothing_starts_but_things_can_be_stopped` |
//! | `/cluster/resources` is up to 10 s old | `lists::a_state_that_the_list_does_not_show_yet_is_read_from_the_node` |
//! | guests are `unknown` without a name: node off, or file system just restarted | `lists::the_guests_of_a_node_that_is_off_are_listed_as_unknown`, `lists::after_a_restart_of_the_cluster_file_system_what_is_unknown_is_not_made_up` |
//! | a paused VM is `running` | `lists::a_guest_is_told_as_it_is_now`, `power::what_a_guest_is_like_is_looked_at_before_anything_is_asked` |
//! | numbers as strings, cpu 0, uptime 0, a VM's disk 0, no name | `lists::a_guest_is_told_as_it_is_now`, `lists::every_guest_is_listed_as_the_vendor_has_it` |
//! | a host in no cluster has no entry for one | `lists::a_host_in_no_cluster_has_no_cluster_and_no_quorum` |
//! | a configuration shows what is pending unless asked not to, and holds secrets | `lists::a_configuration_is_the_one_in_force_and_keeps_its_secrets` |
//! | the list of snapshots ends with one that is none; `snapstate` | `snapshots::snapshots_are_listed_newest_first_without_the_one_that_is_none` |
//! | snapshot: name taken, raw disk, locked, template: a failed task; bad or reserved name: 400 or 500 | `snapshots::what_the_task_refuses_is_told_with_what_there_is`, `snapshots::names_that_the_vendor_reserves_whatever_their_case` |
//! | a container's snapshot knows no `vmstate`; a guest without disks can be snapshot | `snapshots::a_snapshot_is_made_and_seen_in_every_version` |
//! | delete: running, protected, HA are a 500, locked a failed task (a container's a 500) | `delete::what_became_so_in_between_is_refused_in_the_vendors_words`, `delete::what_the_vendor_would_refuse_is_refused_before` |
//! | a shared storage has a row for each node; an inactive or hanging one fails by itself | `lists::a_shared_storage_is_one_row_and_one_that_is_off_has_no_numbers`, `backups::a_storage_that_hangs_is_named_beside_the_rest` |
//!
//! Not shown: a header of more than 8 kB, a form of more than 512 kB and the verbs and endpoints that are not used; the
//! certificate without its CA (the door's own tests); the lock file's 500 of PUT config.

mod backups;
mod delete;
mod failover;
mod faults;
mod lists;
mod power;
mod refusals;
mod snapshots;

use std::{sync::Arc, time::Duration};

use lab::{
    Appliance as _, Options, Reply, Request, Server,
    proxmox::{Profile, Proxmox, TOKEN_ID, TOKEN_SECRET},
};
use serde_json::{Value, json};

use crate::{
    appliances::{Always, Env, Machine},
    support::Core,
};

/// How long one of the vendor's seconds takes here.
const SECOND: Duration = Duration::from_millis(1);

/// The homelab, in a hurry: tasks end at once.
fn cluster(profile: Profile) -> Machine<Proxmox> {
    Machine::start(hurried(Proxmox::new(profile)))
}

fn hurried(lab: Arc<Proxmox>) -> Arc<Proxmox> {
    lab.set_second(SECOND);
    lab.set_task_time(Duration::ZERO);
    lab
}

/// The homelab behind something that sees each request first, and may answer it in the cluster's place.
fn with_between<F>(profile: Profile, between: F) -> Machine<Proxmox>
where
    F: Fn(&Proxmox, &Request) -> Option<Reply> + Send + Sync + 'static,
{
    let lab = hurried(Proxmox::new(profile));
    let behind = lab.clone();
    let answer = move |request: &Request| between(&behind, request).unwrap_or_else(|| behind.answer(request));
    Machine { lab, server: Arc::new(Server::start(Arc::new(Always(answer)), Options::default()).unwrap()) }
}

fn env(machine: &Machine<Proxmox>) -> Env {
    machine.env("PROXMOX").and("PROXMOX_TOKEN_ID", TOKEN_ID).and("PROXMOX_TOKEN_SECRET", TOKEN_SECRET)
}

fn core(machine: &Machine<Proxmox>) -> Core {
    env(machine).core()
}

/// What the cluster itself answers to a GET, past the network.
fn raw(lab: &Proxmox, path: &str) -> Value {
    let request = Request {
        method: "GET".to_owned(),
        target: format!("/api2/json{path}"),
        headers: vec![("Authorization".to_owned(), format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}"))],
        body: Vec::new(),
        connection: 0,
        nth: 1,
    };
    let mut answer: Value = serde_json::from_slice(&lab.answer(&request).body).unwrap();
    answer["data"].take()
}

/// Everything that was asked for besides reading: `POST /nodes/…`.
fn changes(machine: &Machine<Proxmox>) -> Vec<String> {
    let seen = machine.server.seen().into_iter().filter(|seen| seen.method != "GET");
    seen.map(|seen| format!("{} {}", seen.method, seen.target.trim_start_matches("/api2/json"))).collect()
}

/// A call of a changing tool: how it ended, with everything in it.
fn act(core: &mut Core, tool: &str, arguments: Value) -> Value {
    core.call(tool, arguments)["structuredContent"].clone()
}

/// The same with the user's consent, for what asks for it.
fn act_with_consent(core: &mut Core, tool: &str, mut arguments: Value) -> Value {
    let asked = act(core, tool, arguments.clone());
    assert_eq!(asked["outcome"], "needs_confirmation", "{asked}");
    arguments["confirm"] = asked["confirm"].clone();
    act(core, tool, arguments)
}

#[track_caller]
fn assert_outcome(content: &Value, outcome: &str, words: &[&str]) {
    assert_eq!(content["outcome"], outcome, "{content:#}");
    assert_eq!(content["success"], json!(["changed", "unchanged"].contains(&outcome)), "{content:#}");
    assert_says(message(content), words);
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
}

#[track_caller]
fn message(content: &Value) -> &str {
    content["message"].as_str().unwrap_or_else(|| panic!("no message: {content:#}"))
}

/// A share as percent with two decimals.
fn percent(part: &Value, of: f64) -> Value {
    json!((part.as_f64().unwrap() / of * 10_000.0).round() / 100.0)
}
