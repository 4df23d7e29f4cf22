/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/tls.h"

/* Two ends of a connection, in memory. */

#define ROUNDS 20u
#define MANY (300u << 10)

static struct err err;
static char dir[64];

struct end {
    struct port_key key;
    struct ssl_ctx_st *tls;
    struct tls_pipe *pipe;
    char *heard;
    size_t heard_bytes;
    enum io last;
    char why[TIDE_TEXT_MAX + 1];
};

static void end_open(struct end *end, const char *name, bool dialled)
{
    char file[128];
    *end = (struct end){.heard = mem_alloc(MANY)};
    snprintf(file, sizeof file, "%s/%s", dir, name);
    assert_int_equal(port_key_load(file, &end->key, &err), TIDE_OK);
    assert_int_equal(tls_create_pinned(&end->key, &end->tls, &err), TIDE_OK);
    end->pipe = tls_pipe_create(end->tls, dialled);
}

static void end_close(struct end *end)
{
    tls_pipe_free(end->pipe);
    tls_free(end->tls);
    port_key_release(&end->key);
    mem_free(end->heard);
}

static void hear(struct end *end)
{
    size_t n = 0;
    while ((end->last = tls_pipe_read(end->pipe, end->heard + end->heard_bytes, MANY - end->heard_bytes, &n, end->why)) == IO_DONE)
        end->heard_bytes += n;
}

static void carry(struct end *from, struct end *to, bool spoil)
{
    size_t bytes;
    char *data = tls_pipe_take(from->pipe, &bytes);
    if (data != NULL && spoil)
        data[bytes - 1] ^= 1;
    tls_pipe_feed(to->pipe, data, bytes);
    mem_free(data);
    hear(to);
}

static void shake(struct end *one, struct end *two)
{
    hear(one); /* which begins it */
    for (unsigned i = 0; i < ROUNDS && two->last != IO_FAILED && !(tls_pipe_shaken(one->pipe) && tls_pipe_shaken(two->pipe)); i++) {
        carry(one, two, false);
        carry(two, one, false);
    }
}

static void each_knows_whose_key_the_other_has(void **state)
{
    struct end one, two;
    char pin[SHA256_HEX_CHARS + 1];
    (void)state;
    end_open(&one, "one", true);
    end_open(&two, "two", false);
    assert_string_not_equal(one.key.pin, two.key.pin);
    shake(&one, &two);
    assert_int_equal(tls_pin(tls_pipe_ssl(one.pipe), pin, &err), TIDE_OK);
    assert_string_equal(pin, two.key.pin);
    assert_int_equal(tls_pin(tls_pipe_ssl(two.pipe), pin, &err), TIDE_OK);
    assert_string_equal(pin, one.key.pin);
    char *many = mem_alloc(MANY);
    memset(many, 'x', MANY);
    assert_int_equal(tls_pipe_write(one.pipe, many, MANY, one.why), IO_DONE);
    carry(&one, &two, false);
    assert_int_equal(two.heard_bytes, MANY);
    assert_memory_equal(two.heard, many, MANY);
    mem_free(many);
    end_close(&one);
    end_close(&two);
}

static void what_was_changed_on_its_way_ends_it(void **state)
{
    struct end one, two;
    (void)state;
    end_open(&one, "one", true);
    end_open(&two, "two", false);
    shake(&one, &two);
    assert_int_equal(tls_pipe_write(one.pipe, "word", 4, one.why), IO_DONE);
    carry(&one, &two, true);
    assert_int_equal(two.heard_bytes, 0);
    assert_int_equal(two.last, IO_FAILED);
    assert_string_not_equal(two.why, "");
    end_close(&one);
    end_close(&two);
}

static void what_is_no_tls_is_not_taken(void **state)
{
    struct end two;
    (void)state;
    end_open(&two, "two", false);
    tls_pipe_feed(two.pipe, "GET / HTTP/1.1\r\n\r\n", 18);
    hear(&two);
    assert_int_equal(two.last, IO_FAILED);
    end_close(&two);
}

/* Somebody without a key of his own: nothing of his is heard. */
static void who_shows_no_key_is_refused(void **state)
{
    struct end one, two;
    (void)state;
    end_open(&one, "one", true);
    end_open(&two, "two", false);
    tls_pipe_free(one.pipe);
    tls_free(one.tls);
    assert_int_equal(tls_create(&one.tls, &err), TIDE_OK);
    SSL_CTX_set_verify(one.tls, SSL_VERIFY_NONE, NULL);
    one.pipe = tls_pipe_create(one.tls, true);
    shake(&one, &two);
    assert_false(tls_pipe_shaken(two.pipe));
    assert_int_equal(two.last, IO_FAILED);
    end_close(&one);
    end_close(&two);
}

static void the_key_stays_and_nobody_else_may_read_it(void **state)
{
    struct port_key first, second;
    struct stat info;
    char file[128];
    (void)state;
    snprintf(file, sizeof file, "%s/kept", dir);
    assert_int_equal(port_key_load(file, &first, &err), TIDE_OK);
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(port_key_load(file, &second, &err), TIDE_OK);
    assert_string_equal(first.pin, second.pin);
    port_key_release(&first);
    port_key_release(&second);
    assert_int_equal(fsx_replace(file, "nonsense", 8, 0600, &err), TIDE_OK);
    assert_int_equal(port_key_load(file, &first, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, file));
}

static void a_pin_is_said_as_libcurl_wants_it(void **state)
{
    char text[PIN_CURL_CHARS + 1];
    (void)state;
    /* FIPS 180-2, appendix B.1 */
    assert_true(pin_for_curl("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", text));
    assert_string_equal(text, "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_false(pin_for_curl("", text));
    assert_false(pin_for_curl("ba7816bf", text));
    assert_false(pin_for_curl("zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", text));
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tidemark-tls-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fsx_remove_tree(dir, NULL) == TIDE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_knows_whose_key_the_other_has),
        cmocka_unit_test(what_was_changed_on_its_way_ends_it),
        cmocka_unit_test(what_is_no_tls_is_not_taken),
        cmocka_unit_test(who_shows_no_key_is_refused),
        cmocka_unit_test(a_pin_is_said_as_libcurl_wants_it),
        cmocka_unit_test(the_key_stays_and_nobody_else_may_read_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
