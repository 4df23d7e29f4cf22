/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/health/ras.h"
#include "agent/health/watch/watch.h"
#include "ckpt/base/mem.h"
#include "ckpt/format/spread.h"
#include "ckpt/stage/helpers.h"

#define STATE_SYSTEM "/var/lib/tidemark"
#define SCRUB_RATE_DEFAULT (UINT64_C(16) << 20)
#define SCRUB_EVERY_S_DEFAULT UINT64_C(86400)
#define SCRUB_EVERY_S_MAX UINT64_C(31536000) /* a year */
#define HANG_MS_MAX UINT64_C(604800000) /* a week */

enum option_id {
    OPT_COORDINATOR = 256, OPT_IDENTITY, OPT_JOIN, OPT_NAME, OPT_DOMAIN, OPT_STATE, OPT_ADDRESS, OPT_HOST_NAME, OPT_SLOTS, OPT_ARENA,
    OPT_ARENA_MAX, OPT_MESH_PORT, OPT_LOG_PORT, OPT_KILL_ON_EXIT, OPT_STEP, OPT_PROBES, OPT_NIC, OPT_HANG_MS, OPT_SCRUB_RATE,
    OPT_SCRUB_EVERY, OPT_SHARE_NODES, OPT_ENCODE_HELPERS, OPT_LOG_LEVEL, OPT_HELP, OPT_VERSION
};

static const struct option long_options[] = {
    {"coordinator", required_argument, NULL, OPT_COORDINATOR},
    {"identity", required_argument, NULL, OPT_IDENTITY},
    {"join-token", required_argument, NULL, OPT_JOIN},
    {"name", required_argument, NULL, OPT_NAME},
    {"domain", required_argument, NULL, OPT_DOMAIN},
    {"state", required_argument, NULL, OPT_STATE},
    {"address", required_argument, NULL, OPT_ADDRESS},
    {"host-name", required_argument, NULL, OPT_HOST_NAME},
    {"slots", required_argument, NULL, OPT_SLOTS},
    {"arena", required_argument, NULL, OPT_ARENA},
    {"arena-max", required_argument, NULL, OPT_ARENA_MAX},
    {"mesh-port", required_argument, NULL, OPT_MESH_PORT},
    {"log-port", required_argument, NULL, OPT_LOG_PORT},
    {"kill-on-exit", no_argument, NULL, OPT_KILL_ON_EXIT},
    {"step", required_argument, NULL, OPT_STEP},
    {"probes", required_argument, NULL, OPT_PROBES},
    {"hang-ms", required_argument, NULL, OPT_HANG_MS},
    {"scrub-rate", required_argument, NULL, OPT_SCRUB_RATE},
    {"scrub-every", required_argument, NULL, OPT_SCRUB_EVERY},
    {"share-nodes", required_argument, NULL, OPT_SHARE_NODES},
    {"encode-helpers", required_argument, NULL, OPT_ENCODE_HELPERS},
    {"nic", required_argument, NULL, OPT_NIC},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

const char *options_help(void)
{
    return "usage: tidemark-agent --name NODE [--identity DIR | --join-token FILE --coordinator URL[,URL...]] [options]\n"
           "\n"
           "Runs the ranks of this host and keeps their checkpoints in memory until they are stored.\n"
           "\n"
           "  --coordinator URL[,URL...]  https://host:port of every coordinator (default: those of the identity)\n"
           "  --identity DIR      certificate and key of this agent, and the CA of the coordinators: the directory agent of\n"
           "                      tidemark cluster init, or one of tidemark cluster issue agent NODE\n"
           "  --join-token FILE   or the token itself, which others see then: let in by its secret; the CA that a\n"
           "                      coordinator shows is believed if the token names it\n"
           "  --name NODE         this node's name, unique in the cluster\n"
           "  --domain NAME       what fails together with it: a rack, a switch, a power feed. Checkpoints in its memory are copied\n"
           "                      to nodes of other domains (default: it is one of its own)\n"
           "  --state DIR         what outlives the agent (default: $XDG_STATE_HOME/tidemark/agent or " STATE_SYSTEM ")\n"
           "  --address IP        where ranks and agents of other nodes reach it (default: as seen by the coordinator)\n"
           "  --host-name HOST    the name ranks are told (default: the host's)\n"
           "  --slots N           ranks it runs at a time (default: one per processor)\n"
           "  --arena DIR         shared memory for recorded checkpoints (default: /dev/shm)\n"
           "  --arena-max BYTES   of it, at most; K, M, G, T are understood (default: half of the file system)\n"
           "  --mesh-port PORT    agent to agent (default: that of last time, else any free)\n"
           "  --log-port PORT     serves what ranks print (default: as above)\n"
           "  --kill-on-exit      end the ranks when told to end; without it they go on and the next agent takes over\n"
           "  --step PROGRAM      the step program (default: tidemark-step beside this program)\n"
           "  --probes LIST       what of this host's health is watched: gpu, nic, ib, kernel, host, nccl; or all (default), none\n"
           "  --nic LIST          interfaces whose links ranks need (default: the one with the host's address; other hardware is shown)\n"
           "  --hang-ms MS        a rank that is behind in an NCCL collective for so long hangs: its job gets another generation\n"
           "                      (default: 600000; 0: it is shown, and nothing is done)\n"
           "  --scrub-rate BYTES  a second: checkpoints in the store are read to see whether they are whole, while nothing is stored\n"
           "                      or restored (default: 16M; 0: they are not)\n"
           "  --scrub-every SECONDS  each of them once in so long (default: 86400)\n"
           "  --share-nodes N     so many nodes of a job, that follow each other, store once what they hold alike (default: 8, which\n"
           "                      is the most; 1: each node stores all it holds)\n"
           "  --encode-helpers N  threads that help to compress each rank's checkpoint, of the lowest priority, and to decompress it,\n"
           "                      3 at most; 0: none (default: as many as there are processors, 4 of which are left to each rank)\n"
           "  --log-level LEVEL   error, warn, info or debug (default: info)\n"
           "  --help, --version\n"
           "\n"
           "TIDEMARK_COORDINATOR, TIDEMARK_IDENTITY, TIDEMARK_JOIN_TOKEN and TIDEMARK_DOMAIN stand for the options that are not given.\n"
           "With neither identity nor join token, coordinators must be some that were started without certificates: http://host:port.\n";
}

static enum tide_status take_text(const char *flag, const char *value, char *to, size_t size, struct err *err)
{
    if (value[0] == '\0' || strlen(value) >= size)
        return err_set(err, TIDE_E_INVALID, "--%s takes 1 to %zu characters", flag, size - 1);
    text_copy(to, size, value);
    return TIDE_OK;
}

static enum tide_status take_number(const char *flag, const char *value, uint64_t least, uint64_t most, uint64_t *ret_number,
                                    struct err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < least || number > most)
        return err_set(err, TIDE_E_INVALID, "--%s %.40s: a number from %llu to %llu is wanted", flag, value,
                       (unsigned long long)least, (unsigned long long)most);
    *ret_number = number;
    return TIDE_OK;
}

static enum tide_status take_small(const char *flag, const char *value, uint32_t least, uint32_t most, uint32_t *ret_number,
                                   struct err *err)
{
    uint64_t number = 0;
    enum tide_status status = take_number(flag, value, least, most, &number, err);
    if (status == TIDE_OK)
        *ret_number = (uint32_t)number;
    return status;
}

/* "512M": powers of 1024. */
static enum tide_status take_bytes(const char *flag, const char *value, uint64_t *ret_bytes, struct err *err)
{
    static const char units[] = "KMGT";
    char digits[24];
    size_t n = strspn(value, "0123456789");
    const char *unit = value[n] != '\0' ? strchr(units, value[n]) : NULL;
    if (n == 0 || n >= sizeof digits || (value[n] != '\0' && (unit == NULL || value[n + 1] != '\0')))
        return err_set(err, TIDE_E_INVALID, "--%s %.40s: bytes are wanted, as 1073741824 or 1G", flag, value);
    memcpy(digits, value, n);
    digits[n] = '\0';
    unsigned shift = unit != NULL ? 10u * (unsigned)(unit - units + 1) : 0;
    uint64_t bytes = 0;
    enum tide_status status = take_number(flag, digits, 1, UINT64_MAX >> shift, &bytes, err);
    if (status == TIDE_OK)
        *ret_bytes = bytes << shift;
    return status;
}

static enum tide_status take_level(const char *value, enum log_level *ret_level, struct err *err)
{
    if (log_level_parse(value, ret_level) == 0)
        return TIDE_OK;
    return err_set(err, TIDE_E_INVALID, "--log-level %.40s: error, warn, info or debug is wanted", value);
}

static enum tide_status take_name(const char *flag, const char *value, char *to, struct err *err)
{
    if (!name_valid(value))
        return err_set(err, TIDE_E_INVALID, "--%s %.70s: letters, digits, '.', '_' and '-' are possible, at most %d", flag, value,
                       TIDE_NAME_MAX);
    text_copy(to, TIDE_NAME_MAX + 1, value);
    return TIDE_OK;
}

static enum tide_status take(int id, const char *flag, const char *value, struct agent_options *options, struct err *err)
{
    struct shell_options *shell = &options->shell;
    switch (id) {
    case OPT_COORDINATOR:
        return take_text(flag, value, shell->coordinators, sizeof shell->coordinators, err);
    case OPT_IDENTITY:
        return take_text(flag, value, shell->identity, sizeof shell->identity, err);
    case OPT_JOIN:
        return take_text(flag, value, shell->join, sizeof shell->join, err);
    case OPT_NAME:
        return take_name(flag, value, shell->name, err);
    case OPT_DOMAIN:
        return take_name(flag, value, shell->domain, err);
    case OPT_STATE:
        return take_text(flag, value, shell->state, sizeof shell->state, err);
    case OPT_ADDRESS:
        return take_text(flag, value, shell->address, sizeof shell->address, err);
    case OPT_HOST_NAME:
        return take_text(flag, value, shell->host, sizeof shell->host, err);
    case OPT_SLOTS:
        return take_small(flag, value, 1, TIDE_LOCAL_RANKS_MAX, &shell->slots, err);
    case OPT_ARENA:
        return take_text(flag, value, shell->arena, sizeof shell->arena, err);
    case OPT_ARENA_MAX:
        return take_bytes(flag, value, &shell->arena_bytes_max, err);
    case OPT_MESH_PORT:
        return take_small(flag, value, 0, UINT16_MAX, &shell->mesh_port, err);
    case OPT_LOG_PORT:
        return take_small(flag, value, 0, UINT16_MAX, &shell->log_port, err);
    case OPT_KILL_ON_EXIT:
        shell->kill_on_exit = true;
        return TIDE_OK;
    case OPT_STEP:
        return take_text(flag, value, shell->step, sizeof shell->step, err);
    case OPT_HANG_MS:
        return take_number(flag, value, 0, HANG_MS_MAX, &shell->hang_ms, err);
    case OPT_SCRUB_RATE:
        shell->scrub_rate = 0;
        return strcmp(value, "0") == 0 ? TIDE_OK : take_bytes(flag, value, &shell->scrub_rate, err);
    case OPT_SCRUB_EVERY:
        return take_number(flag, value, 1, SCRUB_EVERY_S_MAX, &shell->scrub_every_s, err);
    case OPT_SHARE_NODES:
        return take_small(flag, value, 1, SPREAD_NODES_MAX, &shell->share_nodes, err);
    case OPT_ENCODE_HELPERS:
        return take_small(flag, value, 0, HELPERS_MAX, &shell->encode_helpers, err);
    case OPT_PROBES:
        return watch_parse(value, &shell->probes, err);
    case OPT_NIC:
        return take_text(flag, value, shell->nics, sizeof shell->nics, err);
    default:
        return take_level(value, &options->log_level, err);
    }
}

static enum tide_status default_state(struct shell_options *options, struct err *err)
{
    const char *home = getenv("XDG_STATE_HOME");
    int n = home != NULL && home[0] == '/' ? snprintf(options->state, sizeof options->state, "%s/tidemark/agent", home)
                                           : snprintf(options->state, sizeof options->state, "%s", STATE_SYSTEM);
    if (n < 0 || (size_t)n >= sizeof options->state)
        return err_set(err, TIDE_E_INVALID, "XDG_STATE_HOME is too long; say --state DIR");
    return TIDE_OK;
}

static void from_environment(const char *name, char *to, size_t size)
{
    const char *value = getenv(name);
    if (to[0] == '\0' && value != NULL && strlen(value) < size)
        text_copy(to, size, value);
}

static enum tide_status complete(struct shell_options *options, struct err *err)
{
    const char *domain = getenv("TIDEMARK_DOMAIN");
    if (options->domain[0] == '\0' && domain != NULL && domain[0] != '\0') {
        enum tide_status status = take_name("domain", domain, options->domain, err);
        if (status != TIDE_OK)
            return err_wrap(err, "TIDEMARK_DOMAIN");
    }
    from_environment("TIDEMARK_COORDINATOR", options->coordinators, sizeof options->coordinators);
    /* One that is given stands alone: the other may be left in the environment of all services of a host. */
    bool given = options->identity[0] != '\0' || options->join[0] != '\0';
    if (!given)
        from_environment("TIDEMARK_IDENTITY", options->identity, sizeof options->identity);
    if (!given)
        from_environment("TIDEMARK_JOIN_TOKEN", options->join, sizeof options->join);
    if (options->coordinators[0] == '\0' && options->identity[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "no coordinator is named; say --coordinator https://host:port");
    if (options->name[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "this node has no name; say --name NODE");
    return options->state[0] != '\0' ? TIDE_OK : default_state(options, err);
}

enum tide_status options_parse(int argc, char **argv, struct agent_options *ret_options, enum options_outcome *ret_outcome,
                               struct err *err)
{
    struct agent_options options = {.log_level = LOG_INFO,
                                    .shell = {.probes = WATCH_ALL,
                                              .hang_ms = RAS_HANG_MS_DEFAULT,
                                              .scrub_rate = SCRUB_RATE_DEFAULT,
                                              .scrub_every_s = SCRUB_EVERY_S_DEFAULT,
                                              .share_nodes = SPREAD_NODES_MAX,
                                              .encode_helpers = HELPERS_BY_CORES}};
    int index = 0;
    optind = 1;
    for (int id; (id = getopt_long(argc, argv, "+:h", long_options, &index)) != -1;) {
        if (id == OPT_HELP || id == 'h' || id == OPT_VERSION) {
            *ret_outcome = id == OPT_VERSION ? OPTIONS_VERSION : OPTIONS_HELP;
            return TIDE_OK;
        }
        if (id == '?' || id == ':')
            return err_set(err, TIDE_E_INVALID, id == ':' ? "%s needs a value; see --help" : "there is no option %s; see --help",
                           argv[optind - 1]);
        enum tide_status status = take(id, long_options[index].name, optarg, &options, err);
        if (status != TIDE_OK)
            return status;
    }
    if (optind < argc)
        return err_set(err, TIDE_E_INVALID, "\"%.100s\" is not expected; see --help", argv[optind]);
    enum tide_status status = complete(&options.shell, err);
    if (status != TIDE_OK)
        return status;
    *ret_options = options;
    *ret_outcome = OPTIONS_RUN;
    return TIDE_OK;
}
