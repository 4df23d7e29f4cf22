/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/exits.h"

#include <stddef.h>

const struct exit_row exit_rows[] = {
#define X(number, symbol, meaning) {number, meaning},
    EXIT_CODE_MAP(X)
#undef X
        {0, NULL}};

int exit_of_status(enum tide_status status)
{
    switch (status) {
    case TIDE_OK:
        return EXIT_CODE_OK;
    case TIDE_E_INVALID:
    case TIDE_E_LIMIT:
    case TIDE_E_UNSUPPORTED:
        return EXIT_CODE_USAGE;
    case TIDE_E_NOT_FOUND:
        return EXIT_CODE_NOT_FOUND;
    case TIDE_E_UNAVAILABLE:
        return EXIT_CODE_UNREACHABLE;
    case TIDE_E_TIMEOUT:
        return EXIT_CODE_DEADLINE;
    case TIDE_E_EXISTS:
    case TIDE_E_STATE:
    case TIDE_E_DENIED:
    case TIDE_E_STALE:
    case TIDE_E_CONFLICT:
    case TIDE_E_NO_CHECKPOINT:
        return EXIT_CODE_REFUSED;
    case TIDE_E_CORRUPT:
    case TIDE_E_CUT:
        return EXIT_CODE_CKPT_BAD;
    default:
        return EXIT_CODE_ERROR;
    }
}
