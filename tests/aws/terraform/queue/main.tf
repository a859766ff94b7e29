# A function that is called with the messages of a queue, which is there already.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "endpoint" {}
variable "name" {}
variable "package" {}
variable "queue" {}
variable "most" {
  default = 2
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    lambda = var.endpoint
  }
}

resource "aws_lambda_function" "shop" {
  function_name = var.name
  filename      = var.package
  role          = "arn:aws:iam::000000000000:role/shop"
  handler       = "app.handler"
  runtime       = "python3.13"
  publish       = true
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.shop.function_name
  function_version = aws_lambda_function.shop.version
}

resource "aws_lambda_event_source_mapping" "orders" {
  event_source_arn                   = var.queue
  function_name                      = aws_lambda_alias.live.arn
  batch_size                         = 20
  maximum_batching_window_in_seconds = 1
  function_response_types            = ["ReportBatchItemFailures"]

  filter_criteria {
    filter {
      pattern = jsonencode({ body = { kind = ["order"] } })
    }
  }

  scaling_config {
    maximum_concurrency = var.most
  }

  tags = {
    team = "tea"
  }
}

# Another with everything left out that can be.
resource "aws_lambda_event_source_mapping" "plain" {
  event_source_arn = var.queue
  function_name    = aws_lambda_function.shop.arn
  enabled          = false
}

output "mapping" {
  value = aws_lambda_event_source_mapping.orders.uuid
}
