import pytest

from specbatch.errors import DeviceError
from specbatch.plan.visible import check_visible, visible_count


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, 8),
        ("", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("0", 1),
        ("3,1", 2),
        ("0,1,-1,2", 2),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1", 2),
        ("MIG-9a1b2c3d-0000-1111-2222-333344445555", 1),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0,MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/2/0", 2),
    ],
)
def test_values_are_counted_and_never_parsed(value, count):
    assert visible_count(value, 8) == count


def test_no_more_than_there_are_can_be_visible():
    assert visible_count("0,1,2,3", 2) == 2


def test_a_count_that_differs_says_both_and_what_to_do():
    with pytest.raises(DeviceError) as refused:
        check_visible(4, 2, "GPU-aa,GPU-bb")
    said = str(refused.value)
    assert "gpus is 4, but this process sees 2 GPUs (CUDA_VISIBLE_DEVICES is 'GPU-aa,GPU-bb')" in said
    assert "set spec.placement.gpus to 2" in said


def test_no_gpu_at_all_points_to_the_cpu():
    with pytest.raises(DeviceError, match=r"sees no GPUs \(CUDA_VISIBLE_DEVICES is not set\)[\s\S]*to 0 \(the CPU\)"):
        check_visible(1, 0)


@pytest.mark.parametrize(("expected", "visible"), [(2, 2), (0, 0), (0, 8)])
def test_equal_counts_and_the_cpu_pass(expected, visible):
    check_visible(expected, visible)
