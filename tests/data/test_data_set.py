import pytest
import torch

from vae_flows.data import DataSet, Images, TensorExamples
from vae_flows.errors import InvalidInputError


def grey(shape=(1, 4, 4), dynamic_binarization=False):
    width = shape[0] * shape[1] * shape[2]
    return Images(torch.zeros(6, width, dtype=torch.uint8), shape, dynamic_binarization=dynamic_binarization)


def bits(shape=(1, 4, 4)):
    width = -(-shape[0] * shape[1] * shape[2] // 8)
    return Images(torch.zeros(6, width, dtype=torch.uint8), shape, packed=True)


def test_a_split_of_another_type_is_refused():
    with pytest.raises(InvalidInputError, match=r"DataSet test: expected an Examples, got a torch\.float32 tensor"):
        DataSet("a", grey(), grey(), torch.zeros(3), "grey", "")  # pyright: ignore[reportArgumentType]


def test_a_data_set_holds_one_kind_of_image():
    data = DataSet("toy", grey(dynamic_binarization=True), bits(), bits(), pixels="binary", description="")
    assert data.image_shape == data.event_shape == (1, 4, 4)
    with pytest.raises(InvalidInputError, match=r"data set 'toy', test: expected examples of shape \(1, 4, 4\)"):
        DataSet("toy", bits(), bits(), bits((1, 4, 5)), pixels="binary", description="")
    with pytest.raises(InvalidInputError, match=r"validation: expected binary pixels, got Images\(6 of 1×4×4, grey"):
        DataSet("toy", bits(), grey(), bits(), pixels="binary", description="")
    with pytest.raises(InvalidInputError, match=r"train: expected grey pixels"):
        DataSet("toy", bits(), grey(), grey(), pixels="grey", description="")
    with pytest.raises(InvalidInputError, match=r"train: expected no pixels, got Images"):
        DataSet("toy", grey(), grey(), grey(), pixels=None, description="")


@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 8, 6), (2, 2, 2, 2)], ids=str)
def test_a_data_set_holds_examples_of_any_shape(shape):
    rows = TensorExamples(torch.zeros(4, *shape))
    data = DataSet("toy", rows, rows, rows, pixels=None, description="")
    assert data.event_shape == shape
    if len(shape) == 3:
        assert data.image_shape == shape
        return
    with pytest.raises(InvalidInputError, match=r"'toy': expected images of shape \(channels, height, width\)"):
        _ = data.image_shape
