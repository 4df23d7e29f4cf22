/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "agent/rpc/copy.h"
#include "tests/unit/slot_port.h"
#include "tests/unit/slots.h"

/* Slots from one agent's memory into another's, over a real port. */

#define CUT 7u
#define LARGE_RANK 4u
#define LARGE_BYTES (64u << 20) /* more than sockets hold */
#define HOLD_MS 60000u
#define TOKEN "0123456789abcdef0123456789abcdef"

static char *arenas, *there;
static char root[DIGEST_HEX_CHARS + 1];
static const struct test_region some[] = {{"weights", 300}, {"noise", 5 * CHUNK_BYTES + 77}};
static struct slot_port port;
static struct copy_source source;
static struct port_key key;
static bool _Atomic launched, holds, brought, gave_up;
static unsigned _Atomic asked;

/* Asked in the loop: which may have something else to do meanwhile, until the large slot is here, but not for ever. */
static const char *token_of(void *context, const char *uid)
{
    (void)context;
    for (unsigned i = 0; holds && !brought && !gave_up; i++) {
        usleep(1000);
        gave_up = i == HOLD_MS;
    }
    asked++;
    return launched && strcmp(uid, TEST_UID) == 0 ? TOKEN : NULL;
}

static int setup(void **state)
{
    (void)state;
    struct err err = {0};
    char arena[TIDE_PATH_MAX + 1];
    arenas = test_dir();
    there = test_dir();
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    assert_int_equal(fsx_mkdirs(arena, 0700, &err), TIDE_OK);
    test_record(arena, 3, 1, CUT, some, 2, 9);
    assert_int_equal(stage_sum(arena, 3, 1, TEST_UID, CUT, root, &err), TIDE_OK);
    char *file = mem_format("%s/port.key", there);
    assert_int_equal(port_key_load(file, &key, &err), TIDE_OK);
    mem_free(file);
    source = (struct copy_source){.address = SLOT_PORT_ADDRESS, .token = TOKEN};
    text_copy(source.pin, sizeof source.pin, key.pin);
    launched = true;
    slot_port_open(&port, arenas, token_of, &key, &source.port);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slot_port_close(&port);
    port_key_release(&key);
    test_dir_remove(arenas);
    test_dir_remove(there);
    return 0;
}

static enum tide_status fetch(const struct copy_source *from, uint64_t cut, uint64_t most, int background, struct err *err)
{
    char got[DIGEST_HEX_CHARS + 1] = "";
    const struct copy_place place = {.dir = there, .job_uid = TEST_UID, .rank = 3, .slot = 0, .cut = cut, .most = most,
                                     .background = background};
    enum tide_status status = copy_fetch(from, &place, got, err);
    if (status == TIDE_OK)
        assert_string_equal(got, root);
    return status;
}

static enum tide_status found(void)
{
    uint32_t slot = 9;
    char digest[DIGEST_HEX_CHARS + 1];
    return stage_find(there, 3, TEST_UID, CUT, 0, 1, &slot, digest, NULL);
}

static void a_slot_comes_as_it_is_there(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(fetch(&source, CUT, UINT64_MAX, 0, &err), TIDE_OK);
    assert_int_equal(found(), TIDE_OK);
    assert_int_equal(fetch(&source, CUT, UINT64_MAX, 1, &err), TIDE_OK);
    assert_int_equal(found(), TIDE_OK);
}

static void *bring_large(void *ret_status)
{
    char got[DIGEST_HEX_CHARS + 1] = "";
    const struct copy_place place = {.dir = there, .job_uid = TEST_UID, .rank = LARGE_RANK, .cut = CUT, .most = UINT64_MAX};
    *(enum tide_status *)ret_status = copy_fetch(&source, &place, got, NULL);
    brought = true;
    return NULL;
}

static void a_loop_that_is_held_up_holds_up_no_slot(void **state)
{
    (void)state;
    static const struct test_region large[] = {{"noise", LARGE_BYTES}};
    enum tide_status status = TIDE_E_IO;
    struct err err = {0};
    char arena[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
    pthread_t thread;
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    test_record(arena, LARGE_RANK, 0, CUT, large, 1, 9);
    assert_int_equal(stage_sum(arena, LARGE_RANK, 0, TEST_UID, CUT, digest, &err), TIDE_OK);
    asked = 0;
    brought = gave_up = false;
    assert_int_equal(pthread_create(&thread, NULL, bring_large, &status), 0);
    for (unsigned i = 0; asked < 2 && i < HOLD_MS; i++) /* its digests, then itself */
        usleep(1000);
    holds = true;
    enum tide_status held = fetch(&source, CUT, UINT64_MAX, 0, &err);
    pthread_join(thread, NULL);
    holds = false;
    assert_int_equal(status, TIDE_OK);
    assert_false(gave_up);
    assert_true(held == TIDE_OK || held == TIDE_E_UNAVAILABLE); /* or the large one took so long that nobody waits as long */
    assert_int_equal(fetch(&source, CUT, UINT64_MAX, 0, &err), TIDE_OK);
}

static void who_does_not_know_the_secret_gets_nothing(void **state)
{
    (void)state;
    struct err err = {0};
    struct copy_source other = source;
    other.token[3] ^= 1;
    assert_int_equal(fetch(&other, CUT, UINT64_MAX, 0, &err), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "(401)"));
    launched = false;
    assert_int_equal(fetch(&source, CUT, UINT64_MAX, 0, &err), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "(503)"));
    assert_int_equal(found(), TIDE_E_NOT_FOUND);
}

static void an_answer_is_kept_whole_or_refused(void **state)
{
    (void)state;
    char query[128];
    struct err err = {0};
    struct slot_sum sum;
    void *data = NULL;
    size_t count = 0;
    CURL *curl = curl_easy_init();
    const struct slot_question question = {.source = &source, .query = query, .deadline_ms = HOLD_MS};
    snprintf(query, sizeof query, "uid=" TEST_UID "&rank=3&cut=%u&part=sum", CUT);
    assert_int_equal(slot_client_get(curl, &question, SLOT_SUM_BYTES_MAX, &data, &count, &err), TIDE_OK);
    assert_int_equal(slot_sum_parse(data, count, "the answer", &sum, &err), TIDE_OK);
    slot_sum_release(&sum);
    mem_free(data);
    data = NULL;
    assert_int_equal(slot_client_get(curl, &question, count - 1, &data, &count, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "more than"));
    assert_null(data);
    assert_int_equal(slot_client_get(curl, &question, count, &data, &count, &err), TIDE_OK);
    mem_free(data);
    curl_easy_cleanup(curl);
}

static void what_is_not_there_or_has_no_room_is_told(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(fetch(&source, CUT + 1, UINT64_MAX, 0, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(fetch(&source, CUT, 4096, 0, &err), TIDE_E_LIMIT);
    assert_int_equal(found(), TIDE_E_NOT_FOUND);
    struct copy_source nobody = source;
    nobody.port = 1;
    assert_int_equal(fetch(&nobody, CUT, UINT64_MAX, 0, &err), TIDE_E_UNAVAILABLE);
    struct copy_source another = source; /* who stands there has another key than the node that should, or shows none */
    another.pin[0] = another.pin[0] == '0' ? '1' : '0';
    assert_int_equal(fetch(&another, CUT, UINT64_MAX, 0, &err), TIDE_E_UNAVAILABLE);
    another.pin[0] = '\0';
    assert_int_equal(fetch(&another, CUT, UINT64_MAX, 0, &err), TIDE_E_UNAVAILABLE);
    assert_int_equal(found(), TIDE_E_NOT_FOUND);
}

/* Damaged there, behind its digests. */
static void what_has_rotten_is_not_taken(void **state)
{
    (void)state;
    struct err err = {0};
    arena_path path;
    char arena[TIDE_PATH_MAX + 1];
    struct slot slot;
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    slot_path(arena, 3, 1, path);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    slot.data[4 * CHUNK_BYTES + 5] ^= 1;
    slot_unmap(&slot);
    assert_int_equal(fetch(&source, CUT, UINT64_MAX, 0, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "chunk 4 of"));
    assert_int_equal(found(), TIDE_E_NOT_FOUND);
}

static void there_is_room_for_copies_beside_what_slots_may_grow_to(void **state)
{
    (void)state;
    uint64_t one = copy_room(arenas, UINT64_C(1) << 30), none = copy_room(arenas, 4096);
    assert_true(one > 0 && one < UINT64_C(1) << 30);
    assert_int_equal(none, 0);
    assert_int_equal(copy_room(arenas, UINT64_MAX), 0); /* slots of ranks here may take all there is */
}

static char cipher[64];

static size_t note_cipher(char *data, size_t one, size_t count, void *context)
{
    struct curl_tlssessioninfo *session = NULL;
    (void)data;
    if (curl_easy_getinfo(context, CURLINFO_TLS_SSL_PTR, &session) == CURLE_OK && session->backend == CURLSSLBACKEND_OPENSSL)
        text_copy(cipher, sizeof cipher, SSL_get_cipher_name(session->internals));
    return one * count;
}

/* Slots are enciphered with the shorter of the keys that TLS 1.3 knows: it costs a third less. */
static void the_cheaper_cipher_is_taken(void **state)
{
    (void)state;
    struct err err = {0};
    CURL *curl = curl_easy_init();
    const struct slot_question question = {.source = &source, .query = "uid=" TEST_UID "&rank=3&cut=7&part=slot",
                                           .deadline_ms = HOLD_MS, .take = note_cipher, .context = curl};
    assert_non_null(curl);
    assert_int_equal(slot_client_ask(curl, &question, &err), TIDE_OK);
    assert_string_equal(cipher, "TLS_AES_128_GCM_SHA256");
    curl_easy_cleanup(curl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_slot_comes_as_it_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_loop_that_is_held_up_holds_up_no_slot, setup, teardown),
        cmocka_unit_test_setup_teardown(who_does_not_know_the_secret_gets_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cheaper_cipher_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_is_kept_whole_or_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_or_has_no_room_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_rotten_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_room_for_copies_beside_what_slots_may_grow_to, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
