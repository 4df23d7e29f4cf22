/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_BANK_CHECK_H
#define TESTS_CUT_BANK_CHECK_H

#include "tests/cut/host.h"

/* Of a cut of examples/bank, in slot `slot` of every rank: is each transfer in exactly one place, a ledger or a channel log, and is
 * all the money there? False: `why` says what is not. ret_messages: those in channel logs. */
bool bank_check(const struct host *host, uint64_t cut, uint32_t slot, uint64_t *ret_messages, char *why, size_t why_size);

#endif
