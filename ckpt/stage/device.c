/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <tidemark/version.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/device.h"

/* Loaded once in a process and never unloaded: other handles may use it, and its own libraries do not like to leave. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct device_ops *plugin;

#define TEXT_OF_(x) #x
#define TEXT_OF(x) TEXT_OF_(x)
#define PLUGIN_FILE DEVICE_PLUGIN "." TEXT_OF(TIDE_VERSION_MAJOR)

/* Beside this library first, then where the loader looks. */
static void *load(char *ret_why, size_t why_bytes)
{
    char path[TIDE_PATH_MAX + 1];
    Dl_info here;
    void *library = NULL;
    if (dladdr((void *)device_for, &here) != 0 && here.dli_fname != NULL && strrchr(here.dli_fname, '/') != NULL) {
        int dir = (int)(strrchr(here.dli_fname, '/') - here.dli_fname);
        if (snprintf(path, sizeof path, "%.*s/" PLUGIN_FILE, dir, here.dli_fname) < (int)sizeof path)
            library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL)
        library = dlopen(PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);
    const char *why = library == NULL ? dlerror() : NULL;
    text_copy(ret_why, why_bytes, why ? why : "");
    return library;
}

static enum tide_status find(struct err *err)
{
    char why[512];
    void *library = load(why, sizeof why);
    if (library == NULL)
        return err_set(err, TIDE_E_UNSUPPORTED,
                       "device memory needs " PLUGIN_FILE " beside libtidemark, and libcudart.so.13 of CUDA 13 where the "
                       "loader finds it: %s",
                       why);
    const struct device_ops *found = dlsym(library, DEVICE_PLUGIN_SYMBOL);
    if (found == NULL || found->abi != DEVICE_ABI)
        return err_set(err, TIDE_E_VERSION,
                       PLUGIN_FILE " is of another version than libtidemark; install both from one build");
    plugin = found;
    return TIDE_OK;
}

enum tide_status device_for(enum tide_memory memory, const struct device_ops **ret_ops, struct err *err)
{
    if (memory == TIDE_HOST) {
        *ret_ops = &device_host;
        return TIDE_OK;
    }
    pthread_mutex_lock(&lock);
    enum tide_status status = plugin ? TIDE_OK : find(err);
    if (status == TIDE_OK)
        *ret_ops = plugin;
    pthread_mutex_unlock(&lock);
    return status;
}
