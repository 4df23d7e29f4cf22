/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_NCCL_ANY_NCCL_H
#define CKPT_CLIENT_NCCL_ANY_NCCL_H

/* nccl.h of any version from 2.14 on, and what a later one has that a program behind this library may have been built with. A
 * function may be declared twice, so those need no version. */

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stddef.h>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 14, 0)
#error "nccl.h is older than 2.14: it has no ncclConfig_t"
#endif

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 22, 0)
typedef struct ncclSimInfo ncclSimInfo_t;
#endif
#if NCCL_VERSION_CODE < NCCL_VERSION(2, 27, 0)
typedef struct ncclWindow *ncclWindow_t;
#endif
#ifndef NCCL_SPLIT_NOCOLOR
#define NCCL_SPLIT_NOCOLOR (-1) /* 2.18 */
#endif

/* 2.24 */
#define ANY_FLOAT8_E4M3 10
#define ANY_FLOAT8_E5M2 11

/* ncclConfig_t as far as the name, which came with 2.27. Fields are only ever added behind, and `size` says how many there are. */
struct any_config {
    size_t size;
    unsigned magic, version;
    int blocking, cga_cluster_size, min_ctas, max_ctas;
    const char *net_name;
    int split_share, traffic_class;
    const char *comm_name;
};
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 3)
_Static_assert(offsetof(struct any_config, comm_name) == offsetof(ncclConfig_t, commName), "the name is where NCCL has it");
_Static_assert(ncclFloat8e4m3 == ANY_FLOAT8_E4M3 && ncclFloat8e5m2 == ANY_FLOAT8_E5M2, "these are NCCL's numbers");
#endif

ncclResult_t ncclGroupStart(void); /* the header's are no prototypes */
ncclResult_t ncclGroupEnd(void);

/* 2.18 */
ncclResult_t ncclCommSplit(ncclComm_t, int, int, ncclComm_t *, ncclConfig_t *);
/* 2.19 */
ncclResult_t ncclCommRegister(const ncclComm_t, void *, size_t, void **);
ncclResult_t ncclCommDeregister(const ncclComm_t, void *);
/* 2.22 */
ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t *);
/* 2.23 */
ncclResult_t ncclCommInitRankScalable(ncclComm_t *, int, int, int, ncclUniqueId *, ncclConfig_t *);
/* 2.27 */
ncclResult_t ncclCommShrink(ncclComm_t, int *, int, ncclComm_t *, ncclConfig_t *, int);
ncclResult_t ncclCommWindowRegister(ncclComm_t, void *, size_t, ncclWindow_t *, int);
ncclResult_t ncclCommWindowDeregister(ncclComm_t, ncclWindow_t);
/* 2.28 */
ncclResult_t ncclAlltoAll(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t);
ncclResult_t ncclGather(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
ncclResult_t ncclScatter(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
/* 2.28.9; not in every 2.28 */
ncclResult_t ncclCommRevoke(ncclComm_t, int);

#endif
