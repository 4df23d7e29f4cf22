/* SPDX-License-Identifier: Apache-2.0 */
/* tidemarkd: options, signals, the loop. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <tidemark/version.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/store/store_url.h"
#include "coordinator/disk/check.h"
#include "coordinator/server/inner.h"
#include "coordinator/server/offline.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

#define LISTEN_DEFAULT "127.0.0.1:7070"
#define LEASE_MS_MAX 600000u
#define GOOD_MS_MAX 604800000u /* a week */
#define HEARTBEAT_MS_MIN 10u
#define ELECTION_MS_MAX 60000u

static const char help[] =
    "usage: tidemarkd --data DIR [options]\n"
    "       tidemarkd check-data DIR\n"
    "       tidemarkd recover --data DIR         a majority is lost: go on with this member alone\n"
    "       tidemarkd restore --data DIR --from FILE [--identity DIR]    a new cluster from a backup\n"
    "\n"
    "The coordinator of a Tidemark cluster: keeps what is decided in a write-ahead log, and serves the API.\n"
    "\n"
    "  --data DIR            everything it must not forget; made when it does not exist\n"
    "  --identity DIR        who this member is, with certificate and key (tidemark cluster init makes it): the API\n"
    "                        is HTTPS and asks everybody who they are; without it, everybody may do everything\n"
    "  --insecure            serve without certificates even where others than this host reach it\n"
    "  --listen HOST:PORT    where the API listens (default: the port that the identity names, else " LISTEN_DEFAULT ";\n"
    "                        port 0: any free one; the address is written to DIR/address)\n"
    "  --peer-listen HOST:PORT  where the other members connect (default: the port that the identity names)\n"
    "  --election-ms N       without a word from a leader for so long (up to twice) another one is elected\n"
    "                        (default 300, at least 30; the same at each member)\n"
    "  --heartbeat-raft-ms N how often the leader says that it is there (default 50; at most a third of that)\n"
    "  --store URL           default store of jobs that name none, file:///DIR or s3://BUCKET/PREFIX (new clusters only)\n"
    "  --lease-ms N          a node silent for so long is lost (default 2000; new clusters only)\n"
    "  --heartbeat-ms N      how often agents report (default 250; new clusters only)\n"
    "  --health-good-ms N    a node that was drained for its health gets ranks again after having been good for so long\n"
    "                        (default 600000; new clusters only)\n"
    "  --snapshot-every N    records of the log between two snapshots (default 4096)\n"
    "  --log-level LEVEL     error, warn, info or debug (default info)\n"
    "  --help, --version\n"
    "\n"
    "check-data verifies a data directory that no tidemarkd uses, changes nothing, says a line per file, and ends\n"
    "with 1 if anything is corrupt.\n";

enum option_id {
    OPT_DATA = 256,
    OPT_IDENTITY,
    OPT_INSECURE,
    OPT_LISTEN,
    OPT_PEER_LISTEN,
    OPT_ELECTION,
    OPT_BEAT,
    OPT_STORE,
    OPT_LEASE,
    OPT_HEARTBEAT, OPT_GOOD,
    OPT_SNAPSHOT,
    OPT_LOG,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"data", required_argument, NULL, OPT_DATA},
    {"identity", required_argument, NULL, OPT_IDENTITY},
    {"insecure", no_argument, NULL, OPT_INSECURE},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"peer-listen", required_argument, NULL, OPT_PEER_LISTEN},
    {"election-ms", required_argument, NULL, OPT_ELECTION},
    {"heartbeat-raft-ms", required_argument, NULL, OPT_BEAT},
    {"store", required_argument, NULL, OPT_STORE},
    {"lease-ms", required_argument, NULL, OPT_LEASE},
    {"heartbeat-ms", required_argument, NULL, OPT_HEARTBEAT},
    {"health-good-ms", required_argument, NULL, OPT_GOOD},
    {"snapshot-every", required_argument, NULL, OPT_SNAPSHOT},
    {"log-level", required_argument, NULL, OPT_LOG},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "tidemarkd: %s%s\nTry: tidemarkd --help\n", what, value ? value : "");
    return EXIT_USAGE;
}

/* Nonzero unless `text` is a whole number from min to max. */
static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || n < min || n > max)
        return -1;
    *ret_number = n;
    return 0;
}

static int parse_store(const char *url, const char **ret_store)
{
    struct err err = {0};
    if (store_url_check(url, &err) != TIDE_OK)
        return usage("--store: ", err.text);
    *ret_store = url;
    return 0;
}

/* ---- check-data ---- */

static void print_verdict(void *arg, const char *file, bool bad, const char *verdict)
{
    (void)arg, (void)bad;
    printf("%s: %s\n", file, verdict);
}

static int check_data_main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[2], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_OK;
    }
    if (argc != 3 || argv[2][0] == '-')
        return usage("check-data takes one directory", NULL);
    struct err err = {0};
    if (check_data(argv[2], print_verdict, NULL, &err) == TIDE_OK) {
        printf("%s: all is well\n", argv[2]);
        return EXIT_OK;
    }
    fflush(stdout);
    fprintf(stderr, "tidemarkd: %s\n", err.text);
    return EXIT_ERROR;
}

/* ---- the daemon ---- */

static const char *identity_dir;

static int parse_option(int option, struct server_options *o)
{
    enum log_level level;
    switch (option) {
    case OPT_DATA:
        o->data = optarg;
        return 0;
    case OPT_IDENTITY:
        identity_dir = optarg;
        return 0;
    case OPT_INSECURE:
        o->insecure = true;
        return 0;
    case OPT_LISTEN:
        o->listen = optarg;
        return 0;
    case OPT_PEER_LISTEN:
        o->peer_listen = optarg;
        return 0;
    case OPT_ELECTION:
        return parse_number(optarg, 3 * RAFT_TICK_MS, ELECTION_MS_MAX, &o->election_ms)
                   ? usage("--election-ms must be 30 to 60000, not ", optarg)
                   : 0;
    case OPT_BEAT:
        return parse_number(optarg, RAFT_TICK_MS, ELECTION_MS_MAX, &o->beat_ms)
                   ? usage("--heartbeat-raft-ms must be 10 to 60000, not ", optarg)
                   : 0;
    case OPT_STORE:
        return parse_store(optarg, &o->store);
    case OPT_LEASE:
        return parse_number(optarg, 1, LEASE_MS_MAX, &o->lease_ms) ? usage("--lease-ms must be 1 to 600000, not ", optarg)
                                                                   : 0;
    case OPT_HEARTBEAT:
        return parse_number(optarg, HEARTBEAT_MS_MIN, LEASE_MS_MAX, &o->heartbeat_ms)
                   ? usage("--heartbeat-ms must be 10 to 600000, not ", optarg)
                   : 0;
    case OPT_GOOD:
        return parse_number(optarg, 1, GOOD_MS_MAX, &o->health_good_ms)
                   ? usage("--health-good-ms must be 1 to 604800000, not ", optarg)
                   : 0;
    case OPT_SNAPSHOT:
        return parse_number(optarg, 1, UINT32_MAX, &o->snapshot_every)
                   ? usage("--snapshot-every must be a whole number of 1 or more, not ", optarg)
                   : 0;
    case OPT_LOG:
        if (log_level_parse(optarg, &level) != 0)
            return usage("--log-level must be error, warn, info or debug, not ", optarg);
        log_init("tidemarkd", level);
        return 0;
    default:
        return usage("see above", NULL);
    }
}

static int check_options(const struct server_options *o)
{
    uint64_t lease = o->lease_ms ? o->lease_ms : LEASE_MS_DEFAULT;
    uint64_t heartbeat = o->heartbeat_ms ? o->heartbeat_ms : HEARTBEAT_MS_DEFAULT;
    uint64_t election = o->election_ms ? o->election_ms : RAFT_ELECTION_TICKS_DEFAULT * RAFT_TICK_MS;
    uint64_t beat = o->beat_ms ? o->beat_ms : RAFT_HEARTBEAT_TICKS_DEFAULT * RAFT_TICK_MS;
    if (o->data == NULL || o->data[0] == '\0')
        return usage("--data DIR is missing", NULL);
    if (o->peer_listen != NULL && identity_dir == NULL)
        return usage("--peer-listen needs --identity: other members must know who this is", NULL);
    if (beat / RAFT_TICK_MS * 3 > election / RAFT_TICK_MS)
        return usage("--election-ms must be at least three times --heartbeat-raft-ms", NULL);
    if (heartbeat * 2 > lease)
        return usage("--lease-ms must be at least twice --heartbeat-ms, or one late heartbeat loses a node", NULL);
    return 0;
}

/* One descriptor per connection: take what the system allows. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct daemon {
    uv_loop_t loop;
    uv_signal_t terminate, interrupt;
    struct server *server;
};

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    log_info("signal %d (%s): stopping", number, strsignal(number));
    uv_close((uv_handle_t *)&daemon->terminate, NULL);
    uv_close((uv_handle_t *)&daemon->interrupt, NULL);
    server_stop(daemon->server);
}

/* Who this is, and where it listens unless told: on every address with the port that the others know, since a host's own
 * name often is a loopback address to itself. */
static enum tide_status listen_at(const char *address, char ret_listen[ADDRESS_MAX + 1], struct err *err)
{
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    enum tide_status status = address_split(address, host, &port, err);
    if (status != TIDE_OK)
        return status;
    if (address_loopback(address))
        text_copy(ret_listen, ADDRESS_MAX + 1, address);
    else
        snprintf(ret_listen, ADDRESS_MAX + 1, strchr(host, ':') ? "[::]:%" PRIu32 : "0.0.0.0:%" PRIu32, port);
    return TIDE_OK;
}

static enum tide_status take_identity(struct idir *idir, struct server_options *o, char listen[ADDRESS_MAX + 1],
                                      char peer_listen[ADDRESS_MAX + 1], struct err *err)
{
    enum tide_status status = idir_load(identity_dir, idir, err);
    if (status != TIDE_OK)
        return status;
    o->identity = idir;
    o->identity_dir = identity_dir;
    const struct member_address *self = identity_member(&idir->identity, idir->identity.member);
    if (self == NULL)
        return err_set(err, TIDE_E_INVALID,
                       "%s is not the identity of a member; those are in member-1, member-2 … of tidemark "
                       "cluster init",
                       identity_dir);
    if (!idir->identity.insecure && idir->days_left == 0)
        return err_set(err, TIDE_E_DENIED, "the certificate in %s has expired; tidemark cluster issue makes another",
                       identity_dir);
    if (!idir->identity.insecure && idir->days_left < CERT_DAYS_WARN)
        log_warn("the certificate in %s expires in %u days; tidemark cluster issue makes another", identity_dir,
                 idir->days_left);
    if (o->listen == NULL)
        status = listen_at(strstr(self->api, "://") + 3, listen, err);
    if (o->peer_listen == NULL && status == TIDE_OK)
        status = listen_at(self->peer, peer_listen, err);
    if (o->peer_listen == NULL)
        o->peer_listen = peer_listen;
    return status;
}

static int serve(struct server_options *o)
{
    struct daemon daemon = {0};
    struct err err = {0};
    struct idir idir = {0};
    char listen[ADDRESS_MAX + 1] = LISTEN_DEFAULT, peer_listen[ADDRESS_MAX + 1] = "";
    enum tide_status status = identity_dir ? take_identity(&idir, o, listen, peer_listen, &err) : TIDE_OK;
    if (o->listen == NULL)
        o->listen = listen;
    uv_loop_init(&daemon.loop);
    if (status == TIDE_OK)
        status = server_open(&daemon.loop, o, &daemon.server, &err);
    if (status != TIDE_OK) {
        log_error("%s", err.text);
        uv_run(&daemon.loop, UV_RUN_DEFAULT); /* what was opened before is closed */
        uv_loop_close(&daemon.loop);
        idir_release(&idir);
        return EXIT_ERROR;
    }
    uv_signal_init(&daemon.loop, &daemon.terminate);
    uv_signal_init(&daemon.loop, &daemon.interrupt);
    daemon.terminate.data = daemon.interrupt.data = &daemon;
    uv_signal_start(&daemon.terminate, on_signal, SIGTERM);
    uv_signal_start(&daemon.interrupt, on_signal, SIGINT);
    log_info("version %s serves cluster %s on %s%s; data in %s, revision %" PRIu64, TIDE_VERSION_STRING,
             member_cluster(replica_member(daemon.server->replica)), http_address(daemon.server->http),
             daemon.server->tls.cert ? "" : " to everybody, without certificates", o->data,
             server_state(daemon.server)->revision);
    uv_run(&daemon.loop, UV_RUN_DEFAULT);
    server_free(daemon.server);
    uv_loop_close(&daemon.loop);
    idir_release(&idir);
    log_info("stopped");
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    log_init("tidemarkd", LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is a failed write like another, and is reported as one */
    if (argc > 1 && strcmp(argv[1], "check-data") == 0)
        return check_data_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "recover") == 0)
        return recover_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "restore") == 0)
        return restore_main(argc, argv);
    struct server_options o = {.store = ""};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == OPT_HELP || option == OPT_VERSION) {
            fputs(option == OPT_HELP ? help : "tidemarkd " TIDE_VERSION_STRING "\n", stdout);
            return EXIT_OK;
        }
        int failed = parse_option(option, &o);
        if (failed)
            return failed;
    }
    if (optind < argc)
        return usage("unknown word: ", argv[optind]);
    int failed = check_options(&o);
    if (failed)
        return failed;
    raise_descriptors();
    return serve(&o);
}
