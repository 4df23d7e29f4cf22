/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_CHECK_H
#define COORDINATOR_DISK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "ckpt/base/err.h"

/* Called for each file with its verdict, one line for people. */
typedef void check_report(void *arg, const char *file, bool bad, const char *verdict);

/* Verify a data directory that no tidemarkd uses; changes nothing. Returns OK when all is well (a torn tail is), else the
 * first thing wrong. Errors: NOT_FOUND, CONFLICT (in use), VERSION, CORRUPT, IO. */
MUST_USE enum tide_status check_data(const char *path, check_report *report, void *arg, struct err *err);

#endif
