//! Batches: a CSV file is added up by several workers. The template is `product_inventory.yaml`.

use std::{collections::BTreeMap, io::ErrorKind};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, StepContext, StepError, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("analyze_csv", analyze_csv)
        .handler("process_csv_batch", process_csv_batch)
        .handler("aggregate_csv_results", aggregate_csv_results)
}

/// What a worker found in a batch, or a convergence in all of them.
#[derive(Default, Deserialize, Serialize)]
struct Stock {
    processed: u64,
    inventory_cents: u64,
    category_counts: BTreeMap<String, u64>,
    dearest: Option<Product>,
}

#[derive(Deserialize, Serialize)]
struct Product {
    title: String,
    price_cents: u64,
}

impl Stock {
    /// The stock of one product, from a line of the file. The file has no quotes.
    fn of_line(line: &str) -> Result<Self, StepError> {
        let fields: Vec<&str> = line.split(',').collect();
        let &[_id, title, category, price_cents, stock] = &fields[..] else {
            return Err(PermanentError::new(format!("the line {line:?} has {} fields instead of 5", fields.len())).into());
        };
        let (price_cents, pieces): (u64, u64) = (price_cents.parse()?, stock.parse()?);
        Ok(Self {
            processed: 1,
            inventory_cents: price_cents * pieces,
            category_counts: [(category.to_owned(), 1)].into(),
            dearest: Some(Product { title: title.to_owned(), price_cents }),
        })
    }

    /// Adds another stock. Of two products that are as dear, the first stays the dearest.
    fn add(&mut self, other: Self) {
        self.processed += other.processed;
        self.inventory_cents += other.inventory_cents;
        for (category, count) in other.category_counts {
            *self.category_counts.entry(category).or_default() += count;
        }
        let price = |product: &Option<Product>| product.as_ref().map(|product| product.price_cents);
        if price(&other.dearest) > price(&self.dearest) {
            self.dearest = other.dearest;
        }
    }
}

/// The lines of the file without its head.
async fn lines(context: &StepContext) -> Result<Vec<String>, StepError> {
    let path: String = context.input("csv_file_path")?;
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(&path).map_err(|error| (path, error)));
    match read.await? {
        Ok(text) => Ok(text.lines().skip(1).map(str::to_owned).collect()),
        Err((path, error)) if error.kind() == ErrorKind::NotFound => {
            Err(PermanentError::new(format!("there is no file {path}")).with_code("file_not_found").into())
        }
        Err((_, error)) => Err(error.into()),
    }
}

/// Counts the rows. Without any there is no work.
async fn analyze_csv(context: StepContext) -> Result<Batches, StepError> {
    let total = lines(&context).await?.len() as u64;
    Ok(Batches::of_size(total, context.config("batch_size")?)?)
}

/// Adds up the rows of its batch.
async fn process_csv_batch(context: StepContext) -> Result<Stock, StepError> {
    let batch = context.batch_inputs()?.range()?;
    let mut stock = Stock::default();
    let rows = lines(&context).await?;
    for line in rows.iter().take(batch.end as usize).skip(batch.start as usize) {
        stock.add(Stock::of_line(line)?);
    }
    Ok(stock)
}

/// Puts the batches together. One without work adds nothing, and does not count.
async fn aggregate_csv_results(context: StepContext) -> Result<Value, StepError> {
    let batches: Vec<Stock> = context.batch_results("process_csv_batch")?;
    let workers = batches.iter().filter(|stock| stock.processed > 0).count();
    let mut total = Stock::default();
    batches.into_iter().for_each(|stock| total.add(stock));
    let mut result = serde_json::to_value(total)?;
    result["worker_count"] = json!(workers);
    Ok(result)
}
