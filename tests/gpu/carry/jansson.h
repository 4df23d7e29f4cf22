/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GPU_CARRY_JANSSON_H
#define TESTS_GPU_CARRY_JANSSON_H

/* What headers need that a test of device memory includes and does not use. */
typedef struct json_t json_t;
typedef long long json_int_t;

#endif
