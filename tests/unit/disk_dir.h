/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_DISK_DIR_H
#define TESTS_UNIT_DISK_DIR_H

/* A directory of its own for each test of the disk, and whole files in and out of it. Included after cmocka. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

static inline int dir_make(void **ret)
{
    /* In memory where that is possible: a test that syncs a thousand times has nothing to do with the disk's speed. */
    char template[64];
    snprintf(template, sizeof template, "%s/tidemark-disk-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    char *dir = mkdtemp(template);
    assert_non_null(dir);
    *ret = mem_strdup(dir);
    return 0;
}

static inline int dir_drop(void **dir)
{
    assert_int_equal(fsx_remove_tree(*dir, NULL), TIDE_OK);
    mem_free(*dir);
    return 0;
}

static inline char *file_read(const char *path, size_t *ret_bytes)
{
    char *data = NULL;
    assert_int_equal(fsx_read(path, 64u << 20, &data, ret_bytes, NULL), TIDE_OK);
    return data;
}

static inline void file_write(const char *path, const char *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fsx_write_all(fd, data, bytes, path, NULL), TIDE_OK);
    close(fd);
}

static inline void file_flip(const char *path, off_t offset, unsigned char bits)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

#endif
