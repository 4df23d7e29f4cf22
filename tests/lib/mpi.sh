# SPDX-License-Identifier: Apache-2.0
# For scripts that start MPI programs, of more ranks than there are processors, beside other tests: a rank that waits naps (nap.c).
#
#     . "$(dirname "${BASH_SOURCE[0]}")/../lib/mpi.sh"
#     (mpi_env; mpirun -n 4 PROGRAM)             # all that this shell starts from now on
#     tide run "${MPI_JOB[@]}" … -- PROGRAM      # ranks of a job
# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts read it

MPI_NAP=${TIDE_BUILD:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build-tests/plain}/tests/nap.so
MPI_JOB=(--env OMPI_MCA_mpi_yield_when_idle=1 --env "LD_PRELOAD=$MPI_NAP")

mpi_env()
{
    export OMPI_MCA_mpi_yield_when_idle=1 LD_PRELOAD=$MPI_NAP
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
}
