/* SPDX-License-Identifier: Apache-2.0 */
/* The kept inputs of one target, each once: what was found stays found, without a fuzzer. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES_MAX (1u << 20)
#define INPUTS_MIN 5u /* a corpus that is not found must not pass */

static void every_kept_input_is_taken(void **state)
{
    (void)state;
    DIR *corpus = opendir(FUZZ_CORPUS);
    unsigned inputs = 0;
    assert_non_null(corpus);
    for (struct dirent *entry; (entry = readdir(corpus)) != NULL;) {
        char path[4096], *data;
        size_t bytes;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", FUZZ_CORPUS, entry->d_name);
        assert_int_equal(fsx_read(path, INPUT_BYTES_MAX, &data, &bytes, NULL), TIDE_OK);
        assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)data, bytes), 0);
        mem_free(data);
        inputs++;
    }
    closedir(corpus);
    assert_true(inputs >= INPUTS_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kept_input_is_taken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
