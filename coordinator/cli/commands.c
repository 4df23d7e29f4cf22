/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/secure/certs.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/tables.h"

#define CHECK_BYTES_MAX (UINT64_C(1) << 30) /* five of them are in the store at once */
#define AT(member) .offset = offsetof(struct options, member)
#define TABLE(variable, words, list) \
    const struct option_table variable = {.title = words, .rows = list, .count = sizeof list / sizeof list[0]}

/* ---- options of every command ---- */

static const char *const output_choices[] = {"table", "json", "wide", "name", NULL};
static const char *const stream_choices[] = {"out", "err", "both", NULL};
static const char *const until_choices[] = {"ended", "running", "stepping", NULL};

static const struct option common_rows[] = {
    {.name = "coordinator", .kind = OPTION_TEXT, .value = "URL[,URL...]", AT(coordinator),
     .help = "coordinators to ask (default: $TIDEMARK_COORDINATOR, else the identity's, else http://127.0.0.1:7070)"},
    {.name = "identity", .kind = OPTION_TEXT, .value = "DIR", AT(identity), .complete = COMPLETE_DIR,
     .help = "who you are: a directory of tidemark cluster init or issue (default: $TIDEMARK_IDENTITY)"},
    {.name = "token", .kind = OPTION_TEXT, .value = "SECRET", AT(token),
     .help = "show this token instead of a certificate; better in $TIDEMARK_TOKEN, where nobody sees it"},
    {.name = "cacert", .kind = OPTION_TEXT, .value = "FILE", AT(cacert), .complete = COMPLETE_FILE,
     .help = "the CA of the coordinators (default: $TIDEMARK_CACERT, else the identity's, else the system's)"},
    {.name = "timeout", .kind = OPTION_DURATION, .value = "DURATION", AT(timeout_ms), .preset = "30s",
     .help = "longest time without an answer of any coordinator before the command gives up"},
    {.name = "help", .letter = 'h', .kind = OPTION_FLAG, AT(help), .help = "print this help"},
};
TABLE(common_table, "Every command", common_rows);

static const struct option output_rows[] = {
    {.name = "output", .letter = 'o', .kind = OPTION_CHOICE, .value = "table|json|wide|name", AT(output),
     .choices = output_choices,
     .preset = "table", .help = "json: the noun of the API as it came, stable for scripts; name: names alone, one a line"},
};
TABLE(output_table, "Output", output_rows);

/* ---- options of one command each ---- */

#define WITHIN(preset_, what) \
    {.name = "within", .kind = OPTION_DURATION, .value = "DURATION", AT(within_ms), .preset = preset_, .help = what}

static const struct option list_rows[] = {
    {.name = "all", .letter = 'a', .kind = OPTION_FLAG, AT(all), .help = "ended jobs too"},
};
static TABLE(list_table, "Options", list_rows);

static const struct option logs_rows[] = {
    {.name = "follow", .letter = 'f', .kind = OPTION_FLAG, AT(follow),
     .help = "go on across generations until the job has ended and all is printed; Ctrl-C detaches"},
    {.name = "rank", .letter = 'r', .kind = OPTION_TEXT, .value = "R[,R|R-R...]", AT(ranks), .help = "only these ranks"},
    {.name = "generation", .letter = 'g', .kind = OPTION_NUMBER, .value = "G", AT(generation), .min = 1,
     .help = "that generation (default: the newest)"},
    {.name = "all-generations", .kind = OPTION_FLAG, AT(all_generations), .help = "from the first generation on"},
    {.name = "stream", .kind = OPTION_CHOICE, .value = "out|err|both", AT(stream), .choices = stream_choices,
     .preset = "both",
     .help = "stdout, stderr or both of the ranks; all is printed on stdout"},
    {.name = "tail", .kind = OPTION_NUMBER, .value = "N", AT(tail), .max = 1000000, .min = 1,
     .help = "only the last N lines of each rank and stream"},
};
static TABLE(logs_table, "Options", logs_rows);

static const struct option wait_rows[] = {
    {.name = "for", .kind = OPTION_CHOICE, .value = "ended|running|stepping", AT(until), .choices = until_choices,
     .preset = "ended",
     .help = "what to wait for; stepping: every rank has made a step"},
    WITHIN("30d", "longest wait"),
};
static TABLE(wait_table, "Options", wait_rows);

static const struct option cancel_rows[] = {
    {.name = "wait", .kind = OPTION_FLAG, AT(wait), .help = "wait until its ranks are gone"},
    WITHIN("5m", "longest wait of --wait"),
};
static TABLE(cancel_table, "Options", cancel_rows);

static const struct option events_rows[] = {
    {.name = "follow", .letter = 'f', .kind = OPTION_FLAG, AT(follow),
     .help = "print further events until the job has ended; with -o json each in a line of its own"},
};
static TABLE(events_table, "Options", events_rows);

static const struct option save_rows[] = {
    {.name = "wait", .kind = OPTION_FLAG, AT(wait), .help = "wait until it is durable in the store (committed)"},
    WITHIN("10m", "longest wait"),
};
static TABLE(save_table, "Options", save_rows);

static const struct option ckpts_rows[] = {
    {.name = "all", .letter = 'a', .kind = OPTION_FLAG, AT(all), .help = "dropped ones too"},
};
static TABLE(ckpts_table, "Options", ckpts_rows);

static const struct option verify_rows[] = {
    {.name = "readmit", .kind = OPTION_FLAG, AT(readmit),
     .help = "where it was found corrupt before, and all that it needs is right now: commit it again, and pin it"},
    {.name = "store", .kind = OPTION_TEXT, .value = "URL", AT(store), .complete = COMPLETE_DIR,
     .help = "read this store (default: the job's)"},
};
static TABLE(verify_table, "Options", verify_rows);

static const struct option drop_rows[] = {
    {.name = "force", .kind = OPTION_FLAG, AT(force),
     .help = "at once, even if it is pinned or the only one the job could restart from"},
};
static TABLE(drop_table, "Options", drop_rows);

static const struct option hold_rows[] = {
    {.name = "for", .kind = OPTION_DURATION, .value = "DURATION", AT(for_ms), .min = 1, .preset = "7d",
     .help = "from now on; a later hold replaces an earlier one"},
};
static TABLE(hold_table, "Options", hold_rows);

static const char *const format_choices[] = {"safetensors", "raw", NULL};
static const struct option export_rows[] = {
    {.name = "format", .kind = OPTION_CHOICE, .value = "safetensors|raw", AT(format), .choices = format_choices,
     .preset = "safetensors", .help = "raw: the bytes of all regions in one file, and another, JSON, that says what lies where"},
    {.name = "store", .kind = OPTION_TEXT, .value = "URL", AT(store), .complete = COMPLETE_DIR,
     .help = "read this store (default: the job's)"},
};
static TABLE(export_table, "Options", export_rows);

static const struct option gc_rows[] = {
    {.name = "dry-run", .letter = 'n', .kind = OPTION_FLAG, AT(dry_run),
     .help = "delete nothing; list the store from this machine and tell what would go, and its bytes"},
    {.name = "store", .kind = OPTION_TEXT, .value = "URL", AT(store), .complete = COMPLETE_DIR,
     .help = "with --dry-run: look into this store (default: the job's)"},
};
static TABLE(gc_table, "Options", gc_rows);

static const struct option import_rows[] = {
    {.name = "verify", .kind = OPTION_FLAG, AT(verify),
     .help = "read every byte of each before it is registered, not its manifests and the names of its packs alone"},
    {.name = "dry-run", .letter = 'n', .kind = OPTION_FLAG, AT(dry_run),
     .help = "register nothing; tell what there is, and what is wrong with it"},
};
static TABLE(import_table, "Options", import_rows);

static const struct option check_rows[] = {
    {.name = "bytes", .kind = OPTION_NUMBER, .value = "N", AT(bytes), .min = 1, .max = CHECK_BYTES_MAX,
     .preset = "33554432",
     .help = "bytes of each large object; five are written"},
};
static TABLE(check_table, "Options", check_rows);

static const struct option rollback_rows[] = {
    {.name = "to", .kind = OPTION_TEXT, .value = "CKPT", AT(to), .complete = COMPLETE_CKPT,
     .help = "to this checkpoint: JOB/7 or 7 (default: the newest committed one)"},
    {.name = "steps", .kind = OPTION_NUMBER, .value = "N", AT(steps), .min = 1,
     .help = "at least N steps back from where it is now"},
    {.name = "no-wait", .kind = OPTION_FLAG, AT(no_wait), .help = "do not wait until the job is running again"},
    WITHIN("10m", "longest wait"),
};
static TABLE(rollback_table, "Options", rollback_rows);

static const struct option status_rows[] = {
    {.name = "stale", .kind = OPTION_FLAG, AT(stale),
     .help = "ask the coordinator that is named first, and print what it knows, which may be old"},
};
static TABLE(status_table, "Options", status_rows);

static const struct option add_rows[] = {
    {.name = "wait", .kind = OPTION_FLAG, AT(wait), .help = "wait until it has caught up, and promote it"},
    WITHIN("10m", "longest wait of --wait, all in all"),
};
static TABLE(add_table, "Options", add_rows);

static const struct option remove_rows[] = {
    {.name = "yes", .letter = 'y', .kind = OPTION_FLAG, AT(yes), .help = "do not ask, whoever it is"},
};
static TABLE(remove_table, "Options", remove_rows);

#define DATA_ROW \
    {.name = "data", .kind = OPTION_TEXT, .value = "DIR", AT(data), .complete = COMPLETE_DIR, .help = "its data directory"}

static const struct option restore_rows[] = {DATA_ROW};
static TABLE(restore_table, "Options", restore_rows);

static const struct option recover_rows[] = {
    DATA_ROW,
    {.name = "yes-lose-what-others-had", .kind = OPTION_FLAG, AT(lose), .help = "do not ask for the cluster's id"},
};
static TABLE(recover_table, "Options", recover_rows);

static const char *const role_choices[] = {"agent", "viewer", "operator", "admin", NULL};

static const struct option init_rows[] = {
    {.name = "dir", .kind = OPTION_TEXT, .value = "DIR", AT(dir), .preset = "tidemark-cluster", .complete = COMPLETE_DIR,
     .help = "make this directory"},
    {.name = "insecure", .kind = OPTION_FLAG, AT(insecure),
     .help = "no certificates: whoever reaches a port may do everything; for one machine alone"},
    {.name = "force", .kind = OPTION_FLAG, AT(force), .help = "an even number of members, or more than five, all the same"},
};
static TABLE(init_table, "Options", init_rows);

static const struct option issue_rows[] = {
    {.name = "dir", .kind = OPTION_TEXT, .value = "DIR", AT(dir), .preset = "tidemark-cluster", .complete = COMPLETE_DIR,
     .help = "the directory of tidemark cluster init, with ca.key"},
    {.name = "role", .kind = OPTION_CHOICE, .value = "viewer|operator|admin", AT(role), .choices = role_choices,
     .preset = "viewer", .help = "what a client may do: look; run jobs and drain nodes; everything"},
    {.name = "days", .kind = OPTION_NUMBER, .value = "N", AT(days), .min = 1, .max = CERT_DAYS_CA,
     .help = "the certificate is good for N days (default: 3650, a client's 365)"},
};
static TABLE(issue_table, "Options", issue_rows);

static const struct option revoke_rows[] = {
    {.name = "undo", .kind = OPTION_FLAG, AT(undo), .help = "let it count again"},
};
static TABLE(revoke_table, "Options", revoke_rows);

static const struct option token_rows[] = {
    {.name = "role", .kind = OPTION_CHOICE, .value = "agent|viewer|operator|admin", AT(role), .choices = role_choices,
     .preset = "viewer", .help = "what its holder may do: look; run jobs and drain nodes; everything; or be an agent"},
    {.name = "node", .kind = OPTION_TEXT, .value = "NODE", AT(node), .complete = COMPLETE_NODE,
     .help = "role agent: it may speak for this node only"},
    {.name = "expires", .kind = OPTION_DURATION, .value = "DURATION", AT(expires_ms), .preset = "30d",
     .help = "good for so long; 0: until it is revoked"},
    {.name = "join", .kind = OPTION_FLAG, AT(join),
     .help = "print a join token for tidemark-agent --join-token: the CA's pin with it (role agent)"},
};
static TABLE(token_table, "Options", token_rows);

static const struct option drain_rows[] = {
    {.name = "now", .kind = OPTION_FLAG, AT(now),
     .help = "do not wait for its jobs to restart or end: take a checkpoint of each and start it again from there elsewhere"},
    WITHIN("10m", "longest wait of --now, for a checkpoint and for a new start"),
};
static TABLE(drain_table, "Options", drain_rows);

static const struct option help_rows[] = {
    {.name = "man", .kind = OPTION_FLAG, AT(man), .hidden = true, .help = "print the man page in roff"},
};
static TABLE(help_table, "Options", help_rows);

/* ---- the commands ---- */

#define SET(...) .set = {.tables = {__VA_ARGS__ __VA_OPT__(,) &common_table}}
#define JOB_ARG .args = "JOB", .args_min = 1, .args_max = 1, .complete = COMPLETE_JOB
#define NODE_ARG .args = "NODE", .args_min = 1, .args_max = 1, .complete = COMPLETE_NODE
/* "JOB/7" or "JOB 7" */
#define CKPT_ARG .args = "JOB/CKPT", .args_min = 1, .args_max = 2, .complete = COMPLETE_CKPT

const struct command commands[] = {
    {.name = "run", .brief = "submit a program as a job of one or many ranks", .args = "[--] PROGRAM [ARG...]",
     .args_min = 1, .args_max = TIDE_ARGS_MAX, .complete = COMPLETE_FILE, .run = cmd_run,
     .set = {.tables = {&run_table, &run_job_table, &run_saving_table, &run_follow_table, &output_table, &common_table,
                        &run_torch_table},
             .stop_at_first = true},
     .details = "Understands torchrun's command lines: both spellings (--nproc-per-node and --nproc_per_node) and "
                "PET_<FLAG> in the environment. A script ending in .py is run with python3 -u, as torchrun does "
                "($PYTHON_EXEC names another interpreter). The command returns as soon as the job is accepted, unless "
                "--wait, --follow or --standalone is given; then it ends with the job's exit status: 0, that of the "
                "first rank that failed, or 128+N for a rank killed by signal N.\n"
                "With --standalone no daemon has to be started before. Other commands reach the job while it runs, say for a checkpoint "
                "by hand, by the address that is told at the start. Checkpoints go to $XDG_STATE_HOME/tidemark/store and stay there; "
                "tidemark ckpt import makes them known to a cluster. The first Ctrl-C cancels the job, which gives its ranks --stop-grace "
                "to end; the second kills them."},

    {.group = "job", .name = "list", .brief = "the jobs and their states", .run = cmd_job_list,
     SET(&list_table, &output_table)},
    {.group = "job", .name = "show", .brief = "a job, its ranks and newest checkpoints", JOB_ARG, .run = cmd_job_show,
     SET(&output_table)},
    {.group = "job", .name = "logs", .brief = "the output of a job's ranks", JOB_ARG, .run = cmd_job_logs, SET(&logs_table),
     .details = "Reads from the nodes themselves. Lines are prefixed with the rank when there is more than one. A node "
                "that does not answer is named in a warning and passed over."},
    {.group = "job", .name = "wait", .brief = "wait for a job and end with its exit status", JOB_ARG, .run = cmd_job_wait,
     SET(&wait_table, &output_table)},
    {.group = "job", .name = "cancel", .brief = "stop a job for good", JOB_ARG, .run = cmd_job_cancel,
     SET(&cancel_table, &output_table)},
    {.group = "job", .name = "explain", .brief = "why a job is in its state, what it waits for, how it recovered", JOB_ARG,
     .run = cmd_job_explain, SET(&output_table)},
    {.group = "job", .name = "events", .brief = "the history of a job", JOB_ARG, .run = cmd_job_events,
     SET(&events_table, &output_table)},

    {.group = "ckpt", .name = "save", .brief = "take a checkpoint now; training does not stop", JOB_ARG,
     .run = cmd_ckpt_save,
     SET(&save_table, &output_table)},
    {.group = "ckpt", .name = "list", .brief = "the checkpoints of a job", JOB_ARG, .run = cmd_ckpt_list,
     SET(&ckpts_table, &output_table)},
    {.group = "ckpt", .name = "show", .brief = "one checkpoint", CKPT_ARG, .run = cmd_ckpt_show, SET(&output_table)},
    {.group = "ckpt", .name = "verify", .brief = "read a checkpoint from its store and check every byte", CKPT_ARG,
     .run = cmd_ckpt_verify, SET(&verify_table, &output_table),
     .details = "Reads the store from this machine and compares it with the digest in the coordinator's log: manifests, and each pack "
                "that they name as a whole, also where this checkpoint needs nothing of it. All damage is told, and noted in the store, so "
                "that no later checkpoint refers to a damaged pack; exit status 9, even where all that this checkpoint needs is right, "
                "which is then said; 3 where the store holds nothing of the job. A note that keeps packs for it and is gone is put again. "
                "Meanwhile the checkpoint is held, so that it is not deleted under the reader's hands. One that a restore or a scrub "
                "found corrupt stays so until somebody readmits it: its store may have been out of order for a while, or may have "
                "its objects again from a copy."},
    {.group = "ckpt", .name = "export", .brief = "write a checkpoint's regions into files that other programs read",
     .args = "JOB/CKPT DIR", .args_min = 2, .args_max = 3, .complete = COMPLETE_CKPT, .run = cmd_ckpt_export,
     SET(&export_table, &output_table),
     .details = "One file per rank, DIR/rank-00000.safetensors and so on: a region is a tensor with the name, type and shape that the "
                "program registered. What safetensors has no word for (opaque bytes, 8-bit floats of whatever kind) is U8. Reads "
                "the store from this machine and checks every byte; a file is there under its name only when it is whole. Files that "
                "are there already are never replaced."},
    {.group = "ckpt", .name = "import", .brief = "make the checkpoints in a store known to this cluster", .args = "URL [JOB]",
     .args_min = 1, .args_max = 2, .complete = COMPLETE_DIR, .run = cmd_ckpt_import, SET(&import_table, &output_table),
     .details = "Those of another cluster, or of this one before its coordinators' state was lost. Lists the store from this machine "
                "and reads the manifests of each checkpoint; what stands is listed from then on under the job that made it, which is "
                "shown as imported, and is kept until it is unpinned and dropped. What is damaged, of a newer format, leads to "
                "objects of another job, or was dropped here is refused, and nothing of it is registered; the others are, and the exit "
                "status is 9. tidemark run --restore-from JOB/CKPT starts a job that goes on from one. The agents read the store by the "
                "same URL. The cluster that made them is not asked, and may still "
                "delete them."},
    {.group = "ckpt", .name = "pin", .brief = "keep a checkpoint until it is unpinned", CKPT_ARG, .run = cmd_ckpt_pin,
     SET(&output_table),
     .details = "Whatever the job's --ckpt-keep says. One that is condemned already is kept again."},
    {.group = "ckpt", .name = "hold", .brief = "keep a checkpoint for some time", CKPT_ARG, .run = cmd_ckpt_pin,
     SET(&hold_table, &output_table)},
    {.group = "ckpt", .name = "unpin", .brief = "end pin and hold: the job's rule decides again", CKPT_ARG, .run = cmd_ckpt_unpin,
     SET(&output_table)},
    {.group = "ckpt", .name = "drop", .brief = "delete a checkpoint", CKPT_ARG, .run = cmd_ckpt_drop,
     SET(&drop_table, &output_table),
     .details = "When the job's --ckpt-grace is over; until then it is condemned, and tidemark ckpt pin takes it back. What later "
                "checkpoints refer to stays in the store until they are gone, too."},

    {.group = "ckpt", .name = "gc", .brief = "delete now what is condemned, and what nobody needs", JOB_ARG, .run = cmd_ckpt_gc,
     SET(&gc_table, &output_table),
     .details = "Ends the grace of every condemned checkpoint of the job, and has its store searched for objects of dropped and "
                "aborted ones, whoever wrote them and when, and of attempts that were given up. An agent deletes them. The same "
                "search is made when a job ends. A committed checkpoint that the coordinators do not know is never deleted."},

    {.group = "store", .name = "check", .brief = "prove that a store keeps what checkpoints need, and time it",
     .args = "URL", .args_min = 1, .args_max = 1, .complete = COMPLETE_DIR, .local = true, .run = cmd_store_check,
     SET(&check_table, &output_table),
     .details = "From this machine, with the keys in its environment: writes objects below a name of its own, check.HEX/, "
                "reads and compares them, and deletes them, also on failure and Ctrl-C. What was just written to a directory "
                "may be read from memory, which makes it look faster than its disk. -o json: store, good, bytes, proofs (name, "
                "proved) and speed (workers, up_mb_s, down_mb_s: millions of bytes a second)."},

    {.name = "rollback", .brief = "send a running job back to a checkpoint", JOB_ARG, .run = cmd_rollback,
     SET(&rollback_table, &output_table),
     .details = "What was recorded after that checkpoint belongs to a history that is given up: newer checkpoints are dropped, and their "
                "objects deleted, without the job's --ckpt-grace; export before what you want to have of them. Where one of them is "
                "pinned or held, or another job may have to start from it, nothing is done, and the message names it."},

    {.group = "node", .name = "list", .brief = "the nodes and what they run", .run = cmd_node_list, SET(&output_table)},
    {.group = "node", .name = "show", .brief = "one node", NODE_ARG, .run = cmd_node_show, SET(&output_table)},
    {.group = "node", .name = "drain", .brief = "give a node no new ranks", NODE_ARG, .run = cmd_node_drain,
     SET(&drain_table, &output_table),
     .details = "Ranks that run there stay until their job restarts or ends; the node is then drained, before that it is "
                "draining. With --now its jobs leave at once. A job that finds no other node waits for one; tidemark node "
                "resume lets it come back."},
    {.group = "node", .name = "resume", .brief = "let a drained node run ranks again", NODE_ARG, .run = cmd_node_resume,
     SET(&output_table)},

    {.group = "cluster", .name = "status", .brief = "the coordinators, nodes and jobs in short", .run = cmd_cluster_status,
     SET(&status_table, &output_table),
     .details = "Asks the leader, and each member for what only it knows; what is wrong stands at the end, in words. Without "
                "a leader it shows what those say that answer, and ends with 10. STATE of a member: up; no API: the leader "
                "hears it, we do not; cut off: we do, the leader does not; down. -o json: the cluster as the API gives it, and "
                "besides led, leader, term and problems, and of each member state, voter, connected, answers and version."},

    {.group = "cluster", .name = "init", .brief = "make the certificates and join token of a new cluster",
     .args = "HOST[:API_PORT[:PEER_PORT]]...", .args_min = 1, .args_max = MEMBERS_MAX, .local = true,
     .run = cmd_cluster_init, SET(&init_table),
     .details = "One word per coordinator: one, three or five. HOST is how the others and the clients reach it; the ports "
                "are 7070 and 7071 if not given. Nothing is started and no network is used: it says what to copy where and "
                "what to run. Whoever has ca.key can make more identities; no daemon needs it."},
    {.group = "cluster", .name = "issue", .brief = "make one more identity, or renew one, with a cluster's CA",
     .args = "member|agent|client NAME [HOST...]", .args_min = 2, .args_max = 3, .local = true, .run = cmd_cluster_issue,
     SET(&issue_table),
     .details = "client NAME: for a person or a program. agent NODE: for that node's agent alone, or '*'. member ID HOST[:PORT[:PORT]]: "
                "for a coordinator that is to be added; without HOST: a new certificate for a member that there is. The "
                "identity is made in DIR/KIND-NAME."},

    {.group = "cluster", .name = "add", .brief = "add a coordinator to the group, as a learner",
     .args = "ID HOST[:API_PORT[:PEER_PORT]] | DIR", .args_min = 1, .args_max = 2, .complete = COMPLETE_DIR,
     .run = cmd_cluster_add, SET(&add_table, &output_table),
     .details = "First make its identity: tidemark cluster issue member ID HOST; DIR is what that made. A learner gets the log, "
                "but does not count for a majority until it is promoted. Afterwards start its tidemarkd, with an empty data "
                "directory; --wait waits for that, too."},
    {.group = "cluster", .name = "promote", .brief = "make a learner that has caught up a voter", .args = "ID", .args_min = 1,
     .args_max = 1, .run = cmd_cluster_promote, SET(&add_table, &output_table)},
    {.group = "cluster", .name = "update", .brief = "have the others look for a coordinator at another address",
     .args = "ID HOST[:API_PORT[:PEER_PORT]]", .args_min = 2, .args_max = 2, .run = cmd_cluster_update, SET(&output_table),
     .details = "Before or after it has moved, with its data: it is one change of the group, and it keeps its id and its vote."},
    {.group = "cluster", .name = "remove", .brief = "take a coordinator out of the group, for good", .args = "ID",
     .args_min = 1, .args_max = 1, .run = cmd_cluster_remove, SET(&remove_table, &output_table),
     .details = "Asks first if it leads, or if the group would survive fewer losses without it."},
    {.group = "cluster", .name = "transfer", .brief = "let another coordinator lead, as before maintenance", .args = "[ID]",
     .args_max = 1, .run = cmd_cluster_transfer, SET(&output_table), .details = "Without an ID: whoever is furthest."},
    {.group = "cluster", .name = "revoke", .brief = "let the holder of a certificate in no more", .args = "agent|client|serial NAME",
     .args_min = 2, .args_max = 2, .run = cmd_cluster_revoke, SET(&revoke_table, &output_table),
     .details = "client NAME, agent NODE or agent '*': every certificate of that name, also one issued later. serial HEX: "
                "one certificate; openssl x509 -noout -serial -in cert.pem prints its number. A member's certificate counts "
                "while it is in the group: tidemark cluster remove."},
    {.group = "cluster", .name = "revoked", .brief = "the certificates that were revoked", .run = cmd_cluster_revoked,
     SET(&output_table)},
    {.group = "cluster", .name = "backup", .brief = "write all that the coordinators know into a file", .args = "FILE",
     .args_min = 1, .args_max = 1, .complete = COMPLETE_FILE, .run = cmd_cluster_backup, SET(),
     .details = "Jobs, nodes, checkpoints (not their data) and tokens, as of one moment; nobody waits for it. The file "
                "appears under its name when it is whole and its digest is right."},
    {.group = "cluster", .name = "restore", .brief = "make a coordinator of a new cluster from a backup", .args = "FILE",
     .args_min = 1, .args_max = 1, .complete = COMPLETE_FILE, .local = true, .run = cmd_cluster_restore,
     SET(&restore_table),
     .details = "On the machine of that coordinator, into a --data directory that is not there yet; runs tidemarkd restore. "
                "--identity is that of the member of the new cluster (tidemark cluster init): do it with the same file for "
                "each member, then start them. Without: a cluster of one."},
    {.group = "cluster", .name = "recover", .brief = "most coordinators are lost for good: go on with one", .local = true,
     .run = cmd_cluster_recover, SET(&recover_table),
     .details = "On the machine of that coordinator, which must not run; runs tidemarkd recover. It says how far its log "
                "reaches, and what may be lost, and wants the id of the cluster typed. The others must never be started again "
                "with the data they have."},

    {.group = "token", .name = "create", .brief = "let somebody in with a secret; prints it, once", .args = "NAME",
     .args_min = 1, .args_max = 1, .run = cmd_token_create, SET(&token_table),
     .details = "For example: TIDEMARK_TOKEN=$(tidemark token create ci --role operator). The coordinators keep only its hash."},
    {.group = "token", .name = "list", .brief = "the tokens, without their secrets", .run = cmd_token_list,
     SET(&output_table)},
    {.group = "token", .name = "revoke", .brief = "let a token's holder in no more", .args = "NAME", .args_min = 1,
     .args_max = 1, .run = cmd_token_revoke, SET(&output_table)},

    {.name = "completion", .brief = "print the completion script of a shell", .args = "bash|zsh|fish", .args_min = 1,
     .args_max = 1,
     .complete = COMPLETE_SHELL, .local = true, .run = cmd_completion, SET(),
     .details = "For example: source <(tidemark completion bash)"},
    {.name = "help", .brief = "help on a command", .args = "[COMMAND...]", .args_max = 2, .complete = COMPLETE_COMMAND,
     .local = true,
     .run = cmd_help, SET(&help_table)},
    {.name = "version", .brief = "the version of this program", .local = true, .run = cmd_version, SET()},
    {.name = "__complete", .brief = "the words that may come next", .args = "[WORD...]", .args_max = TIDE_ARGS_MAX,
     .local = true,
     .hidden = true, .run = cmd_complete, .set = {.tables = {&common_table}, .stop_at_first = true}},
};
const size_t command_count = sizeof commands / sizeof commands[0];

static bool named(const struct command *c, const char *group, const char *name)
{
    if ((c->group == NULL) != (group == NULL) || (group != NULL && strcmp(c->group, group) != 0))
        return false;
    return strcmp(c->name, name) == 0;
}

bool command_is_group(const char *word)
{
    for (size_t i = 0; i < command_count; i++)
        if (commands[i].group != NULL && strcmp(commands[i].group, word) == 0)
            return true;
    return false;
}

const struct command *command_find(int argc, char *const *argv, int *ret_words)
{
    *ret_words = 0;
    if (argc == 0)
        return NULL;
    bool group = command_is_group(argv[0]);
    *ret_words = group;
    for (size_t i = 0; i < command_count; i++) {
        if (!group && named(&commands[i], NULL, argv[0])) {
            *ret_words = 1;
            return &commands[i];
        }
        if (group && argc > 1 && named(&commands[i], argv[0], argv[1])) {
            *ret_words = 2;
            return &commands[i];
        }
    }
    return NULL;
}

size_t command_words(const char *group, const char **to, size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < command_count && count < most; i++) {
        const struct command *c = &commands[i];
        const char *word = NULL;
        if (c->hidden)
            continue;
        if (group == NULL)
            word = c->group ? c->group : c->name;
        else if (c->group != NULL && strcmp(c->group, group) == 0)
            word = c->name;
        /* Commands of a group stand together, so a repeated group is the one before. */
        if (word != NULL && (count == 0 || strcmp(to[count - 1], word) != 0))
            to[count++] = word;
    }
    return count;
}

const char *command_title(const struct command *command, char *to, size_t size)
{
    snprintf(to, size, "tidemark %s%s%s", command->group ? command->group : "", command->group ? " " : "", command->name);
    return to;
}
