//! Where does a trajectory lie among the others? Hashed words and pairs of words, weighted by rarity, on the sphere.

use linfa_linalg::eigh::{EigSort as _, Eigh as _};
use ndarray::{Array1, Array2, Axis, s};

use crate::ReportError;

/// Numbers of an embedding. 512 keep collisions rare among the few hundred different n-grams of a step.
pub const N_DIMENSIONS: usize = 512;

/// Embeds trajectories, each given by its sampled tokens: `[n_trajectories, N_DIMENSIONS]`.
///
/// Counts of 1-grams and 2-grams of tokens are hashed into [`N_DIMENSIONS`] bins, bin j is weighted by
/// idf_j = ln((1 + N)/(1 + df_j)) + 1 with df_j of the N trajectories having something in it, and every row is divided
/// by its Euclidean norm. A trajectory without tokens stays at the origin.
#[must_use]
pub fn embed(trajectories: &[&[u32]]) -> Array2<f64> {
    let mut rows = Array2::zeros((trajectories.len(), N_DIMENSIONS));
    for (tokens, mut row) in trajectories.iter().zip(rows.rows_mut()) {
        for gram in tokens.windows(1).chain(tokens.windows(2)) {
            row[bin(gram)] += 1.0;
        }
    }
    let n = trajectories.len() as f64;
    for mut column in rows.columns_mut() {
        let df = column.iter().filter(|&&count| count > 0.0).count() as f64;
        column *= ((1.0 + n) / (1.0 + df)).ln() + 1.0;
    }
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        if norm > 0.0 {
            row /= norm;
        }
    }
    rows
}

/// FNV-1a over the length and the tokens' bytes, and a finaliser, because FNV's low bits alone mix badly.
fn bin(gram: &[u32]) -> usize {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64 ^ gram.len() as u64;
    for byte in gram.iter().flat_map(|token| token.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((hash ^ (hash >> 31)) % N_DIMENSIONS as u64) as usize
}

/// The plane in which points differ most.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// `[n_points]`, coordinates along the first and the second principal component.
    pub points: Vec<[f64; 2]>,
    /// The share of the points' variance along each.
    pub explained: [f64; 2],
}

/// The first two principal components: eigenvectors of the covariance, each with its largest entry positive, since an
/// eigenvector has no sign of its own.
///
/// # Errors
/// When the eigenvectors cannot be computed.
pub fn principal_plane(rows: &Array2<f64>) -> Result<Plane, ReportError> {
    let n = rows.nrows();
    let origin = || Plane { points: vec![[0.0; 2]; n], explained: [0.0; 2] };
    // Columns without variance say nothing and would cost time.
    let varies = |column: &usize| rows.column(*column).iter().any(|x| *x != rows[[0, *column]]);
    let columns: Vec<usize> = (0..rows.ncols()).filter(varies).collect();
    let rows = rows.select(Axis(1), &columns);
    let Some(mean) = rows.mean_axis(Axis(0)).filter(|_| columns.len() >= 2) else { return Ok(origin()) };
    let centred = rows - &mean;
    let covariance = centred.t().dot(&centred) / n as f64;
    let total: f64 = covariance.diag().sum();
    if total <= f64::EPSILON {
        return Ok(origin());
    }
    let (values, vectors) = covariance.eigh().map_err(|e| ReportError::Components(e.to_string()))?.sort_eig_desc();
    let mut points = vec![[0.0; 2]; n];
    for component in 0..2 {
        let vector: Array1<f64> = vectors.slice(s![.., component]).to_owned();
        let largest = vector.iter().copied().fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
        let along = centred.dot(&vector) * largest.signum();
        for (point, coordinate) in points.iter_mut().zip(along) {
            point[component] = coordinate;
        }
    }
    let explained = [0, 1].map(|i| (values[i] / total).clamp(0.0, 1.0));
    Ok(Plane { points, explained })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn equal_trajectories_coincide_and_strangers_are_far() {
        let (a, b, c): (&[u32], &[u32], &[u32]) = (&[1, 2, 3, 4], &[1, 2, 3, 9], &[70, 80, 90]);
        let rows = embed(&[a, a, b, c, &[]]);
        let distance = |i: usize, j: usize| (&rows.row(i) - &rows.row(j)).mapv(|x| x * x).sum().sqrt();
        assert_eq!(distance(0, 1), 0.0);
        assert!(distance(0, 2) > 0.3 && distance(0, 2) < 1.0, "{}", distance(0, 2));
        // Nothing in common: perpendicular.
        assert!((distance(0, 3) - 2f64.sqrt()).abs() < 1e-9, "{}", distance(0, 3));
        assert_eq!(rows.row(4).sum(), 0.0, "no tokens, no direction");
        assert!((rows.row(2).mapv(|x| x * x).sum() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn order_counts() {
        let rows = embed(&[&[1, 2, 3], &[3, 2, 1]]);
        assert_ne!(rows.row(0), rows.row(1));
    }

    /// scikit-learn 1.9.1: `TfidfTransformer(smooth_idf=True).fit_transform([[2, 1], [1, 0]])` has these two rows; bins
    /// of different n-grams are told apart by the hash, so only the weights can be compared.
    #[test]
    fn weights_are_those_of_another_program() {
        let rows = embed(&[&[5, 5], &[5]]);
        let mut first: Vec<f64> = rows.row(0).iter().copied().filter(|&x| x > 0.0).collect();
        first.sort_by(f64::total_cmp);
        let golden = [0.5749618667993135, 0.8181802073667197];
        assert!(first.iter().zip(golden).all(|(a, b)| (a - b).abs() < 1e-12), "{first:?}");
        assert_eq!(rows.row(1).iter().filter(|&&x| x == 1.0).count(), 1);
    }

    #[test]
    fn components_are_the_widest_directions() {
        // Spread 3 along (1, 1)/√2 and 1 along (1, −1)/√2, around (5, 5), with nothing in the third direction.
        let d = 1.0 / 2f64.sqrt();
        let rows = array![
            [5.0 + 3.0 * d, 5.0 + 3.0 * d, 1.0],
            [5.0 - 3.0 * d, 5.0 - 3.0 * d, 1.0],
            [5.0 + d, 5.0 - d, 1.0],
            [5.0 - d, 5.0 + d, 1.0],
        ];
        let plane = principal_plane(&rows).unwrap();
        assert!((plane.explained[0] - 0.9).abs() < 1e-12 && (plane.explained[1] - 0.1).abs() < 1e-12);
        let along: Vec<f64> = plane.points.iter().map(|p| p[0]).collect();
        assert!((along[0] - 3.0).abs() < 1e-9 && (along[1] + 3.0).abs() < 1e-9 && along[2].abs() < 1e-9, "{along:?}");
        assert!((plane.points[2][1].abs() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn points_that_do_not_differ_have_no_plane() {
        let plane = principal_plane(&Array2::ones((3, 4))).unwrap();
        assert_eq!((plane.points, plane.explained), (vec![[0.0; 2]; 3], [0.0; 2]));
        assert!(principal_plane(&Array2::ones((0, 4))).unwrap().points.is_empty());
    }
}
