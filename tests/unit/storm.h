/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORM_H
#define TESTS_UNIT_STORM_H

/* The real store, at a chosen operation of which something happens: it fails from there on, or a cut of the job is deleted. */

#include "tests/unit/slots.h"

#define JOB "job"

static struct store *real;

static struct storm {
    struct store base;
    unsigned left; /* operations until then; 0: nothing happens */
    int broken;
    uint64_t purge; /* else a cut */
} storm;

static enum tide_status happen(struct err *err)
{
    struct err why = {0};
    if (storm.broken)
        return err_set(err, TIDE_E_UNAVAILABLE, "the store is gone");
    if (storm.left == 0 || --storm.left > 0)
        return TIDE_OK;
    if (storm.purge != 0) {
        assert_int_equal(stage_purge(real, JOB, TEST_UID, storm.purge, &why), TIDE_OK);
        return TIDE_OK;
    }
    storm.broken = 1;
    return err_set(err, TIDE_E_UNAVAILABLE, "the store is gone");
}

static enum tide_status storm_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    enum tide_status status = happen(err);
    return status == TIDE_OK ? store_put(real, key, data, bytes, err) : status;
}

static enum tide_status storm_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes,
                                  struct err *err)
{
    (void)store;
    enum tide_status status = happen(err);
    return status == TIDE_OK ? store_get(real, key, offset, to, bytes, err) : status;
}

static enum tide_status storm_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    enum tide_status status = happen(err);
    return status == TIDE_OK ? store_size(real, key, ret_bytes, err) : status;
}

static enum tide_status storm_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    (void)store;
    enum tide_status status = happen(err);
    return status == TIDE_OK ? store_list(real, prefix, ret_keys, err) : status;
}

static enum tide_status storm_remove(struct store *store, const char *key, struct err *err)
{
    (void)store;
    enum tide_status status = happen(err);
    return status == TIDE_OK ? store_remove(real, key, err) : status;
}

static const struct store_ops storm_ops = {
    .scheme = "storm", .put = storm_put, .get = storm_get, .size = storm_size, .list = storm_list, .remove = storm_remove};

static inline struct store *calm(void)
{
    storm = (struct storm){.base.ops = &storm_ops};
    return &storm.base;
}

static inline struct store *failing_at(unsigned operation)
{
    storm = (struct storm){.base.ops = &storm_ops, .left = operation};
    return &storm.base;
}

static inline struct store *purging_at(unsigned operation, uint64_t cut)
{
    storm = (struct storm){.base.ops = &storm_ops, .left = operation, .purge = cut};
    return &storm.base;
}

#endif
