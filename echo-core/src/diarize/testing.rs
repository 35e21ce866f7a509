//! A ResNet34 whose weights are made by formula, as `tests/data/make_resnet34.py` makes them.

/// Numbers from -1 to 1.
pub(crate) fn noise(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729) % 2003) as f64 / 1001.5 - 1.0).collect()
}

/// Name, shape and values of each tensor.
pub(crate) fn resnet34_tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut convolution = |name: &str, norm: &str, [outputs, inputs, size]: [usize; 3]| {
        shapes.push((format!("{name}.weight"), vec![outputs, inputs, size, size]));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.push((format!("{norm}.{part}"), vec![outputs]));
        }
    };
    convolution("conv1", "bn1", [32, 1, 3]);
    let mut inputs = 32;
    for (layer, count) in [(1, 3), (2, 4), (3, 6), (4, 3)] {
        let outputs = 16 << layer;
        for index in 0..count {
            let name = format!("layer{layer}.{index}");
            let at = |part: &str| format!("{name}.{part}");
            convolution(&at("conv1"), &at("bn1"), [outputs, inputs, 3]);
            convolution(&at("conv2"), &at("bn2"), [outputs, outputs, 3]);
            if inputs != outputs {
                convolution(&at("shortcut.0"), &at("shortcut.1"), [outputs, inputs, 1]);
            }
            inputs = outputs;
        }
    }
    shapes.push(("seg_1.weight".to_owned(), vec![256, 5120]));
    shapes.push(("seg_1.bias".to_owned(), vec![256]));
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let places = name.bytes().enumerate();
            let seed: usize = places.map(|(place, byte)| (place + 1) * usize::from(byte)).sum();
            let values = noise(shape.iter().product(), seed % 1000);
            let inputs: usize = shape[1..].iter().product();
            let scale = (2.0 / inputs as f64).sqrt();
            let value = |value: f64| match shape.len() {
                1 if name.ends_with("running_var") || name.ends_with(".weight") => {
                    1.0 + 0.3 * value
                }
                1 => 0.1 * value,
                _ => scale * value,
            };
            let values = values.into_iter().map(|x| value(x) as f32).collect();
            (name, shape, values)
        })
        .collect()
}
