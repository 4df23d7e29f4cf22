/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TIDEMARK_ERROR_H
#define TIDEMARK_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every way a call can fail, once: number, name in the API and in logs, meaning.
 * Ranges say what broke: 1-19 the caller's input, 20-39 this machine, 40-59 the cluster, 60-79 a checkpoint.
 * Numbers are stable: they are only ever added. */
#define TIDE_STATUS_MAP(X)                                                                 \
    X(0, OK, "ok", "success")                                                              \
    X(1, INVALID, "invalid", "an argument or a field is not valid")                        \
    X(2, NOT_FOUND, "not_found", "no such thing")                                          \
    X(3, EXISTS, "exists", "a thing of that name exists already")                          \
    X(4, LIMIT, "limit", "a hard limit would be exceeded")                                 \
    X(5, STATE, "state", "not possible in the present state")                              \
    X(6, DENIED, "denied", "not allowed")                                                  \
    X(7, UNSUPPORTED, "unsupported", "not supported here")                                 \
    X(20, NOMEM, "no_memory", "out of memory")                                             \
    X(21, IO, "io", "an operating system call failed")                                     \
    X(22, NOSPACE, "no_space", "no space left")                                            \
    X(23, CORRUPT, "corrupt", "stored bytes are not what was written")                     \
    X(24, VERSION, "version", "written by an incompatible version")                        \
    X(25, EXEC, "exec", "the program cannot be executed")                                  \
    X(40, UNAVAILABLE, "unavailable", "nobody who could answer was reached")               \
    X(41, TIMEOUT, "timeout", "a deadline passed; the outcome is unknown")                 \
    X(42, STALE, "stale", "from an older generation or incarnation; refused")              \
    X(43, CONFLICT, "conflict", "somebody else holds that name or changed it first")       \
    X(44, RESTART, "restart", "this generation of the job is over; call tide_restart")     \
    X(60, CUT, "cut", "the consistent cut is not valid")                                   \
    X(61, NO_CHECKPOINT, "no_checkpoint", "there is nothing to restore")                   \
    X(62, MISMATCH, "mismatch", "registered regions do not match those of the checkpoint")

enum tide_status {
#define X(number, symbol, name, meaning) TIDE_E_##symbol = number,
    TIDE_STATUS_MAP(X)
#undef X
        TIDE_OK = TIDE_E_OK
};

/* Name as in the API ("not_found"); "unknown" for a number that is none of ours. Never NULL; static storage. */
const char *tide_status_name(enum tide_status status);
/* One line for people. Never NULL; static storage. */
const char *tide_status_text(enum tide_status status);

#ifdef __cplusplus
}
#endif

#endif /* TIDEMARK_ERROR_H */
