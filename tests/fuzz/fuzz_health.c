/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's log, /proc/pressure and NCCL's RAS may say. The first byte chooses; the rest is the text. A finding names its
 * probe, is plain text, and is never worse than there are states. */

#include "agent/health/probes.h"
#include "agent/health/ras.h"
#include "ckpt/base/mem.h"
#include "tests/fuzz/fuzz.h"

static void check(const struct finding *finding)
{
    FUZZ_CHECK(finding->probe != NULL && finding->state < TIDE_HEALTHS);
    FUZZ_CHECK(memchr(finding->subject, '\0', sizeof finding->subject) != NULL);
    FUZZ_CHECK(memchr(finding->text, '\0', sizeof finding->text) != NULL);
    FUZZ_CHECK(finding->state == TIDE_HEALTH_HEALTHY || finding->text[0] != '\0');
    for (const char *c = finding->text; *c != '\0'; c++)
        FUZZ_CHECK(*c >= ' ' && *c <= '~');
}

static void try_kmsg(const char *text, size_t bytes)
{
    struct finding finding;
    if (kmsg_judge(text, bytes, &finding))
        check(&finding);
}

static void try_pressure(const char *text)
{
    struct psi_past past = {0};
    struct finding finding;
    for (unsigned i = 0; i < PSI_DEGRADED_LOOKS; i++) {
        psi_judge(&past, PSI_IO, text, &finding);
        check(&finding);
    }
}

static void try_ras(const char *text, size_t bytes)
{
    static const int32_t pids[] = {77, 0};
    const struct ras_own own = {.addresses = {"10.0.0.1"}, .address_count = 1, .pids = pids, .pid_count = 2};
    struct ras_past past = {0};
    struct finding finding;
    for (uint64_t now_ns = 1; now_ns < 20000000000u; now_ns += 5000000000u)
        if (ras_judge(&past, text, bytes, &own, now_ns, &finding, NULL) == TIDE_OK && finding.probe != NULL)
            check(&finding);
    if (ras_hung(&past, 1, UINT64_C(40000000000), &finding))
        check(&finding);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* On the heap, as long as it is: a read beyond it is seen. */
    char *text = mem_alloc(size);
    memcpy(text, data + 1, size - 1);
    switch (data[0]) {
    case 'k':
        try_kmsg(text, size - 1);
        break;
    case 'p':
        try_pressure(text);
        break;
    default:
        try_ras(text, size - 1);
        break;
    }
    mem_free(text);
    return 0;
}
