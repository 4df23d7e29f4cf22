/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/tables.h"

/* What `tidemark run` knows: torchrun's flags first. Those that mean nothing here are accepted when ignoring them cannot
 * change the result of the training, and refused when it can. */

static const char *const launcher_choices[] = {"pmix", "none", NULL};

static const char *const cut_choices[] = {"auto", "step", "free", NULL};

static const char *const copies_choices[] = {"peer", "none", NULL};

#define AT(member) .offset = offsetof(struct options, member)
#define TORCH .torch = true
#define IGNORED(flag, metavar, why) {.name = flag, .kind = OPTION_IGNORED, .value = metavar, TORCH, .help = why}
#define REFUSED(flag, metavar, why) {.name = flag, .kind = OPTION_REFUSED, .value = metavar, TORCH, .help = why}

static const struct option run_rows[] = {
    {.name = "nnodes", .kind = OPTION_TEXT, .value = "N", AT(nnodes), .preset = "1", TORCH,
     .help = "nodes that run ranks; N:N is accepted, for a range see --elastic"},
    {.name = "nproc-per-node", .letter = 'n', .kind = OPTION_TEXT, .value = "N", AT(nproc), .preset = "1", TORCH,
     .help = "ranks per node: a number, cpu or auto (the slots of the nodes; alone on this machine: its CPUs, with auto its "
             "GPUs if it has any), gpu (only with --standalone)"},
    {.name = "max-restarts", .kind = OPTION_COUNT, .value = "N", AT(max_restarts), .max = 1000000, .preset = "10", TORCH,
     .help = "restarts after failures before the job fails; rollbacks by hand do not count. A program that fails again before it has "
             "made a step waits for 1, 2, 4, at most 60 s"},
    {.name = "standalone", .kind = OPTION_FLAG, AT(standalone), TORCH,
     .help = "bring a coordinator and an agent of its own on this machine, follow the job, take both down at the end"},
    {.name = "module", .letter = 'm', .kind = OPTION_FLAG, AT(module), TORCH,
     .help = "the program is a Python module (python3 -m)"},
    {.name = "no-python", .kind = OPTION_FLAG, AT(no_python), TORCH,
     .help = "execute the program as it is, even if its name ends in .py"},
};

static const struct option job_rows[] = {
    {.name = "name", .kind = OPTION_TEXT, .value = "NAME", AT(name),
     .help = "name of the job (default: the program's name and four random characters)"},
    {.name = "spares", .kind = OPTION_COUNT, .value = "N", AT(spares), .max = TIDE_NODES_MAX,
     .help = "further nodes held ready to take the place of a lost one"},
    {.name = "elastic", .kind = OPTION_TEXT, .value = "MIN:MAX", AT(elastic),
     .help = "ranks that the job can go on with, as its program's regions allow it: where nodes are lost and there is no spare, it is "
             "started again on those that are left, and on more of them at a later restart (default: it waits for nodes)"},
    {.name = "env", .kind = OPTION_LIST, .value = "NAME[=VALUE]", AT(env),
     .help = "set a variable for the ranks; without a value, the one it has here; may be given several times"},
    {.name = "cwd", .kind = OPTION_TEXT, .value = "DIR", AT(cwd), .complete = COMPLETE_DIR,
     .help = "directory the ranks start in, on every node (default: this one)"},
    {.name = "launcher", .kind = OPTION_CHOICE, .value = "pmix|none", AT(launcher), .choices = launcher_choices,
     .preset = "pmix",
     .help = "pmix: MPI programs find each other; none: only torchrun's environment"},
    {.name = "start-deadline", .kind = OPTION_DURATION, .value = "DURATION", AT(start_deadline_ms), .min = 1, .preset = "2m",
     .help = "a generation whose ranks are not all started by then has failed"},
    {.name = "stop-grace", .kind = OPTION_DURATION, .value = "DURATION", AT(stop_grace_ms), .min = 1, .preset = "10s",
     .help = "time between SIGTERM and SIGKILL when the job is cancelled"},
};

static const struct option saving_rows[] = {
    {.name = "ckpt-every", .kind = OPTION_DURATION, .value = "DURATION", AT(ckpt_every_ms),
     .help = "take a checkpoint that often, without stopping the training (default: only by hand)"},
    {.name = "ckpt-keep", .kind = OPTION_COUNT, .value = "N", AT(ckpt_keep), .min = 1, .max = TIDE_CKPTS_MAX / 2,
     .preset = "3",
     .help = "newest committed checkpoints kept; older ones are deleted"},
    {.name = "ckpt-keep-every", .kind = OPTION_TEXT, .value = "N|DURATION", AT(ckpt_keep_every),
     .help = "of older ones keep those with ids N, 2N, 3N (or, where that is missing, the next), or the first of each DURATION"},
    {.name = "ckpt-grace", .kind = OPTION_DURATION, .value = "DURATION", AT(ckpt_grace_ms), .min = 1, .preset = "60s",
     .help = "a checkpoint that is no longer kept is deleted so much later; tidemark ckpt pin takes it back until then"},
    {.name = "restore-from", .kind = OPTION_TEXT, .value = "JOB[/CKPT]", AT(restore_from), .complete = COMPLETE_CKPT,
     .help = "go on from a committed checkpoint of another job, of as many ranks unless --elastic is given, its newest if none is named, "
             "instead of the beginning; see tidemark ckpt import"},
    {.name = "store", .kind = OPTION_TEXT, .value = "URL", AT(store), .complete = COMPLETE_DIR,
     .help = "where checkpoints are durable: s3://BUCKET/PREFIX, or a directory that every node sees (default: the cluster's)"},
    {.name = "copies", .kind = OPTION_CHOICE, .value = "peer|none", AT(copies), .choices = copies_choices, .preset = "peer",
     .help = "peer: the newest checkpoint is also kept in the memory of another node, if there is one of another domain (tidemark-agent "
             "--domain) there, and a lost node's part is restored from it; none: what a lost node had in memory only is lost"},
    {.name = "cut-deadline", .kind = OPTION_DURATION, .value = "DURATION", AT(cut_deadline_ms), .min = 1, .preset = "30s",
     .help = "a checkpoint that is not complete in memory by then is aborted; training goes on"},
    {.name = "cut", .kind = OPTION_CHOICE, .value = "auto|step|free", AT(cut), .choices = cut_choices, .preset = "auto",
     .help = "of programs that pass messages and run with libtidemark_mpi: step: all ranks count the same steps and are recorded at one; "
             "free: each has its own loop; auto: as the program says of itself, else it is found out"},
};

static const struct option follow_rows[] = {
    {.name = "follow", .letter = 'f', .kind = OPTION_FLAG, AT(follow),
     .help = "stay attached: print the ranks' output and end with the job's exit status; Ctrl-C detaches"},
    {.name = "wait", .kind = OPTION_FLAG, AT(wait), .help = "wait for the end of the job and end with its exit status"},
    {.name = "within", .kind = OPTION_DURATION, .value = "DURATION", AT(within_ms), .preset = "30d",
     .help = "longest wait of --wait"},
    {.name = "keep-state", .kind = OPTION_FLAG, AT(keep_state),
     .help = "with --standalone: keep its state directory and say where"},
    {.name = "json", .kind = OPTION_FLAG, AT(json), .help = "the same as -o json: print the outcome as JSON"},
};

static const struct option torch_rows[] = {
    {.name = "node-rank", .kind = OPTION_TEXT, .value = "N", AT(node_rank), TORCH,
     .help = "only 0 is accepted: a job is submitted once, not started on every node"},
    IGNORED("rdzv-backend", "NAME", "the coordinator is the rendezvous"),
    IGNORED("rdzv-endpoint", "HOST:PORT", "the coordinator is the rendezvous; --coordinator says where it is"),
    IGNORED("rdzv-id", "ID", "jobs are told apart by --name"),
    IGNORED("rdzv-conf", "SETTINGS", "the coordinator is the rendezvous; its deadline is --start-deadline"),
    IGNORED("master-addr", "HOST", "every generation gets MASTER_ADDR of the node of rank 0"),
    IGNORED("master-port", "PORT", "every generation gets a fresh MASTER_PORT"),
    IGNORED("local-addr", "ADDR", "an agent's address is set with tidemark-agent --address"),
    IGNORED("monitor-interval", "SECONDS", "the end of a rank is seen at once, not by polling"),
    IGNORED("start-method", "NAME", "ranks are always programs of their own"),
    IGNORED("event-log-handler", "NAME", "see tidemark job events"),
    IGNORED("role", "NAME", "ROLE_NAME is always \"default\""),
    IGNORED("log-dir", "DIR", "the agents keep the logs: see tidemark job logs"),
    {.name = "redirects", .letter = 'r', .kind = OPTION_IGNORED, .value = "SPEC", TORCH,
     .help = "the output of every rank is always kept: see tidemark job logs"},
    {.name = "tee", .letter = 't', .kind = OPTION_IGNORED, .value = "SPEC", TORCH,
     .help = "the output of every rank is always kept; --follow prints it too"},
    IGNORED("local-ranks-filter", "RANKS", "use tidemark job logs --rank"),
    IGNORED("logs-specs", "NAME", "the agents keep the logs: see tidemark job logs"),
    IGNORED("signals-to-handle", "NAMES", "SIGINT, SIGTERM and SIGHUP are handled"),
    REFUSED("run-path", NULL, "put the script behind --, it is run with python3"),
    REFUSED("numa-binding", "MODE", "bind inside the program, or put numactl before it"),
    REFUSED("virtual-local-rank", NULL, "set CUDA_VISIBLE_DEVICES from LOCAL_RANK inside the program"),
};

#define TABLE(variable, words, list) \
    const struct option_table variable = {.title = words, .rows = list, .count = sizeof list / sizeof list[0]}
TABLE(run_table, "Ranks", run_rows);
TABLE(run_job_table, "Job", job_rows);
TABLE(run_saving_table, "Checkpoints", saving_rows);
TABLE(run_follow_table, "Waiting", follow_rows);
TABLE(run_torch_table, "Accepted for torchrun's sake", torch_rows);
