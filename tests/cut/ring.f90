! SPDX-License-Identifier: Apache-2.0
! A program in Fortran that passes messages in most ways there are, and knows what must come out: ring [ROUNDS]. Debian's bindings of
! Fortran call MPI by its second names (PMPI_*).
program ring
    use mpi
    implicit none
    integer, parameter :: words = 500
    integer :: rank, ranks, error, rounds, round, after, before, requests(3), persistent, status(MPI_STATUS_SIZE)
    integer :: statuses(MPI_STATUS_SIZE, 3), duplicate, half, column, got, lost, lost_all
    integer(8) :: total, expected
    integer :: out(words), in(words), any(words), matrix(words, 2)
    character(len=16) :: text
    logical :: flag

    call MPI_Init(error)
    call MPI_Comm_rank(MPI_COMM_WORLD, rank, error)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks, error)
    rounds = 200
    if (command_argument_count() > 0) then
        call get_command_argument(1, text)
        read (text, *) rounds
    end if
    call MPI_Comm_dup(MPI_COMM_WORLD, duplicate, error)
    call MPI_Comm_split(MPI_COMM_WORLD, mod(rank, 2), rank, half, error)
    call MPI_Type_vector(words, 1, 2, MPI_INTEGER, column, error)
    call MPI_Type_commit(column, error)
    after = mod(rank + 1, ranks)
    before = mod(rank + ranks - 1, ranks)
    lost = 0
    total = 0
    call MPI_Recv_init(in, words, MPI_INTEGER, before, 1, MPI_COMM_WORLD, persistent, error)
    do round = 1, rounds
        out = round * ranks + rank
        ! Nonblocking and persistent, two communicators, a wildcard.
        call MPI_Start(persistent, error)
        requests(1) = persistent
        call MPI_Irecv(any, words, MPI_INTEGER, MPI_ANY_SOURCE, MPI_ANY_TAG, duplicate, requests(2), error)
        call MPI_Isend(out, words, MPI_INTEGER, after, 1, MPI_COMM_WORLD, requests(3), error)
        call MPI_Send(out, 10, MPI_INTEGER, before, 2 + mod(round, 5), duplicate, error)
        call MPI_Waitall(3, requests, statuses, error)
        if (in(words) /= round * ranks + before) lost = lost + 1
        call MPI_Get_count(statuses(:, 2), MPI_INTEGER, got, error)
        if (got /= 10 .or. any(10) /= round * ranks + after) lost = lost + 1
        if (statuses(MPI_SOURCE, 2) /= after .or. statuses(MPI_TAG, 2) /= 2 + mod(round, 5)) lost = lost + 1
        ! A probe, a datatype with gaps, and one call that sends and receives.
        call MPI_Issend(out, words, MPI_INTEGER, after, 9, MPI_COMM_WORLD, requests(1), error)
        flag = .false.
        do while (.not. flag)
            call MPI_Iprobe(MPI_ANY_SOURCE, 9, MPI_COMM_WORLD, flag, status, error)
        end do
        call MPI_Recv(matrix, 1, column, status(MPI_SOURCE), 9, MPI_COMM_WORLD, status, error)
        call MPI_Wait(requests(1), MPI_STATUS_IGNORE, error)
        if (matrix(1, 1) /= round * ranks + before) lost = lost + 1
        call MPI_Sendrecv(out, 1, MPI_INTEGER, before, 3, in, 1, MPI_INTEGER, after, 3, MPI_COMM_WORLD, status, error)
        if (in(1) /= round * ranks + after) lost = lost + 1
        if (mod(round, 10) == 0) then
            call MPI_Allreduce(out(1), got, 1, MPI_INTEGER, MPI_SUM, half, error)
            total = total + got
            call MPI_Barrier(MPI_COMM_WORLD, error)
        end if
    end do
    call MPI_Request_free(persistent, error)
    expected = 0
    do round = 10, rounds, 10
        do got = mod(rank, 2), ranks - 1, 2
            expected = expected + round * ranks + got
        end do
    end do
    if (total /= expected) lost = lost + 1
    call MPI_Reduce(lost, lost_all, 1, MPI_INTEGER, MPI_SUM, 0, MPI_COMM_WORLD, error)
    if (rank == 0) print '(a, i0, a, i0, a, i0, a)', 'ring: ', ranks, ' ranks, ', rounds, ' rounds, ', lost_all, ' wrong'
    if (rank == 0 .and. lost_all /= 0) call MPI_Abort(MPI_COMM_WORLD, 1, error)
    call MPI_Type_free(column, error)
    call MPI_Comm_free(half, error)
    call MPI_Comm_free(duplicate, error)
    call MPI_Finalize(error)
end program ring
