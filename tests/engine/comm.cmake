winnow_test(comm_test SOURCES comm_test.cc DEPS winnow_engine LABELS unit tsan)
winnow_test(peer_sums_test SOURCES peer_sums_test.cc DEPS winnow_engine LABELS unit tsan)
winnow_test(nccl_communicator_test SOURCES nccl_communicator_test.cc DEPS winnow_engine LABELS unit tsan)
