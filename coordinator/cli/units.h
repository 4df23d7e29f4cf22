/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_UNITS_H
#define COORDINATOR_CLI_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"

#define DURATION_MS_MAX (UINT64_C(365) * 24 * 3600 * 1000) /* longer is a typing error */
#define UNIT_TEXT_MAX 32                                   /* room for any text printed here */

/* "500ms", "5s", "1.5s", "2m", "1h30m", "2d"; "0" needs no unit. Errors: INVALID with an example. */
MUST_USE enum tide_status duration_parse(const char *text, uint64_t *ret_ms, struct err *err);
/* A whole number in min..max, digits only. Errors: INVALID. */
MUST_USE enum tide_status number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number, struct err *err);

/* All return `to`, which holds UNIT_TEXT_MAX bytes. */
const char *duration_text(uint64_t ms, char *to); /* "0 ms", "340 ms", "1.2 s", "2m 05s", "3h 12m", "4d 02h" */
const char *stall_text(uint64_t us, char *to);    /* "830 us", "1.2 ms", then as above */
const char *size_text(uint64_t bytes, char *to);  /* "0 B", "999 B", "1.5 KiB", "34 MiB" */
const char *age_text(uint64_t now_ms, uint64_t at_ms, char *to); /* "12s ago"; "-" for 0; "now" for the future too */
const char *clock_text(uint64_t at_ms, char *to);                /* local time "2026-01-02 03:04:05"; "-" for 0 */

#endif
